// now.js shows how the service stands: the findings and the numbers.
import { byID, bytes, element, millis, number, seconds } from './dom.js';

const tiles = [
  ['Accepted', (s) => `${number(s.accepted_per_second)} /s`],
  ['Rejected', (s) => `${number(s.rejected_per_second)} /s`],
  ['Acknowledged within', (s) => millis(s.ack_p99_ms), '99 of 100'],
  ['Wait in the inbox', (s) => number(s.inbox_depth), (s) => `${number(s.inbox_ids)} ids`],
  ['Oldest in the inbox', (s) => seconds(s.inbox_oldest_seconds)],
  ['Size of the inbox', (s) => bytes(s.inbox_bytes), (s) => `of ${bytes(s.inbox_max_bytes)}`],
  ['Fetches in flight', (s) => number(s.pool_in_flight), (s) => `of ${number(s.pool_workers)}`],
  ['Callbacks and ids in memory', (s) => number(s.window_pairs), (s) => `of ${number(s.window_max_pairs)}`],
  ['Source', (s) => (s.source_up ? 'up' : 'down'), (s) => (s.source_up ? `${number(s.pool_limit)} at once` : `for ${seconds(s.source_down_seconds)}`)],
  ['Database', (s) => (s.database_up ? 'up' : 'down'), (s) => `writes take ${millis(s.save_p99_ms)}`],
  ['Coalesced', (s) => `${number(s.coalesced_per_second)} /s`],
  ['Deleted late by', (s) => millis(s.expiry_lag_p99_ms), '99 of 100'],
  ['Dead letters', (s) => number(s.dead_letters_total), 'since the start'],
];

const shown = tiles.map(([title, value, about]) => {
  const dd = element('dd', { 'data-tile': title }, '–');
  byID('tiles').append(element('div', {}, element('dt', {}, title), dd));
  return { dd, value, about };
});

let last = null;

export function show(stats) {
  for (const { dd, value, about } of shown) {
    dd.textContent = value(stats);
    const small = typeof about === 'function' ? about(stats) : about;
    if (small) dd.append(' ', element('small', {}, small));
  }
  const items = stats.findings.map((f) => element('li', { class: f.level, 'data-code': f.code }, f.detail));
  byID('findings').replaceChildren(...(items.length ? items : [element('li', {}, 'Nothing holds objects up.')]));
  const codes = stats.findings.map((f) => f.code).join();
  if (codes === last) return; // numbers change each second, and shall not be read out each second
  last = codes;
  byID('news').textContent = stats.findings.map((f) => f.detail).join(' ') || 'Nothing holds objects up.';
}
