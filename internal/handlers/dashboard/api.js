// api.js asks the service. Ids may be over 2^53, which a number of JavaScript cannot hold: they are strings here, taken from the text as it came.

const ids = new Set(['id', 'object_id']);

function exact(key, value, context) {
  return ids.has(key) && typeof value === 'number' ? (context?.source ?? String(value)) : value;
}

export const parse = (text) => JSON.parse(text, exact);

let token = sessionStorage.getItem('token') ?? '';
let asking = null;

// inBytes is the token in UTF-8, a character for each byte, which is what headers and btoa take.
const inBytes = () => String.fromCharCode(...new TextEncoder().encode(token));

// subprotocols are how a WebSocket bears the token: a script cannot give it a header.
export function subprotocols() {
  if (!token) return ['callback.events.v1'];
  const encoded = btoa(inBytes()).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
  return ['callback.events.v1', `bearer.${encoded}`];
}

// ask returns what a route answers, and throws an Error with what a person should read.
export async function ask(method, path, body) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${inBytes()}`;
  if (method !== 'GET') headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: 'no-store' });
  } catch {
    throw new Error('The service does not answer.');
  }
  if (response.status === 401) {
    await askToken(token ? 'That was not the token.' : '');
    return ask(method, path, body);
  }
  const text = await response.text();
  let answer;
  try {
    answer = parse(text);
  } catch {
    throw new Error(`The service answered ${response.status} and no JSON.`);
  }
  if (!response.ok) throw new Error(answer.detail ?? `${response.status} ${answer.title}`);
  return answer;
}

// askToken shows the dialog, once for all who wait for it.
function askToken(note) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById('token-dialog');
    const form = document.getElementById('token-form');
    document.getElementById('token-note').textContent = note;
    form.reset();
    dialog.addEventListener('cancel', (event) => event.preventDefault());
    form.addEventListener('submit', () => {
      token = form.elements.token.value;
      sessionStorage.setItem('token', token);
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}
