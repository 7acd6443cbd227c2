// main.js listens to the live feed. What is to be asked for is asked for in callbacks.js, letters.js, settings.js and tasks.js.
import { ask, parse, subprotocols } from './api.js';
import { byID } from './dom.js';
import { draw } from './charts.js';
import { show } from './now.js';
import './callbacks.js';
import { refresh as refreshLetters } from './letters.js';
import './settings.js';
import './tasks.js';

const connection = byID('connection');

function say(text, state = '') {
  connection.textContent = text;
  connection.className = state;
}

let pause = 1000;
let letters = 0;

async function listen() {
  try {
    await ask('GET', 'admin/tasks'); // asks for the token where there is one: a WebSocket would not tell why it fails
  } catch (error) {
    say(error.message, 'lost');
    setTimeout(listen, pause);
    pause = Math.min(2 * pause, 10_000);
    return;
  }
  const url = new URL('v1/events?type=stats', location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  const socket = new WebSocket(url, subprotocols());
  socket.addEventListener('open', () => {
    pause = 1000;
    say('live', 'live');
  });
  socket.addEventListener('message', ({ data }) => {
    const stats = parse(data);
    show(stats);
    draw(stats.at, stats);
    if (stats.dead_letters_total !== letters) refreshLetters();
    letters = stats.dead_letters_total;
  });
  socket.addEventListener('close', ({ reason }) => {
    say(reason || 'not connected; what is seen is old', 'lost');
    setTimeout(listen, pause);
    pause = Math.min(2 * pause, 10_000);
  });
}

listen();
