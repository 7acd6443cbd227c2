// callbacks.js lists the latest callbacks with their receipts.
import { ask } from './api.js';
import { byID, clock, element, every, millis, note, number, row } from './dom.js';

const took = (c) => (c.done_at ? millis(Date.parse(c.done_at) - Date.parse(c.received_at)) : '–');

const refresh = every(2000, async () => {
  const status = byID('callbacks-status').value;
  try {
    const { callbacks } = await ask('GET', `v1/callbacks?${new URLSearchParams({ status, limit: 12 })}`);
    byID('callback-rows').replaceChildren(...callbacks.map((c) => row(
      element('code', {}, c.callback_id), c.sender, c.tag, c.status, ['n', number(c.objects)], ['n', number(c.stored)], ['n', number(c.missing)],
      ['n', number(c.skipped)], ['n', number(c.failed)], clock(c.received_at), ['n', took(c)],
    )));
    note('callbacks-note', callbacks.length ? '' : 'There are none.');
  } catch (error) {
    note('callbacks-note', `Not up to date: ${error.message}`, true);
  }
});

byID('callbacks-status').addEventListener('change', refresh);
