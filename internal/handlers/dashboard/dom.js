// dom.js makes elements. Text that came from senders or from the source is only ever set as text.

export const byID = (id) => document.getElementById(id);

// element makes one with attributes and with children, which are elements or text.
export function element(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) e.setAttribute(key, '');
    else if (value !== false && value !== undefined) e.setAttribute(key, value);
  }
  e.append(...children);
  return e;
}

// cells makes a row of a table: a child that is an array is a cell's class and content.
export function row(...cells) {
  return element('tr', {}, ...cells.map((c) => (Array.isArray(c) ? element('td', { class: c[0] }, c[1]) : element('td', {}, c))));
}

export function note(id, text, bad = false) {
  const e = byID(id);
  e.textContent = text;
  e.classList.toggle('bad', bad);
}

// attempt runs what a person asked for, and says what went wrong.
export async function attempt(noteID, what) {
  try {
    await what();
  } catch (error) {
    note(noteID, error.message, true);
  }
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

export function number(n) {
  if (n === null || n === undefined) return '–';
  return Math.abs(n) >= 100 ? whole.format(n) : fine.format(n);
}

export function millis(ms) {
  if (ms === null || ms === undefined) return '–';
  return ms >= 1000 ? `${fine.format(ms / 1000)} s` : `${fine.format(ms)} ms`;
}

export const seconds = (s) => (s >= 120 ? `${number(s / 60)} min` : `${number(s)} s`);

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function bytes(n) {
  const unit = n > 0 ? Math.min(units.length - 1, Math.floor(Math.log2(n) / 10)) : 0;
  return `${fine.format(n / 1024 ** unit)} ${units[unit]}`;
}

export const clock = (time) => (time ? new Date(time).toLocaleTimeString('en-GB') : '–');

// every repeats what while the page is seen, one at a time, and once more when it is seen again.
export function every(ms, what) {
  let busy = false;
  const run = async () => {
    if (busy || document.hidden) return;
    busy = true;
    try {
      await what();
    } finally {
      busy = false;
    }
  };
  setInterval(run, ms);
  document.addEventListener('visibilitychange', run);
  run();
  return run;
}
