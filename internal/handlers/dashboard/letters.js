// letters.js lists the dead letters, and redrives or drops them.
import { ask } from './api.js';
import { attempt, byID, clock, element, every, note, number, row } from './dom.js';

const form = byID('letters-form');

// selection is what the form asks for, as the routes want it.
const selection = (more) => ({
  reason: form.elements.reason.value.trim(), sender: form.elements.sender.value.trim(), limit: Number(form.elements.limit.value), ...more,
});

export const refresh = every(5000, async () => {
  const { reason, sender } = selection();
  try {
    const { dead_letters: letters, next } = await ask('GET', `admin/dead-letters?${new URLSearchParams({ reason, sender, limit: 20 })}`);
    byID('letter-rows').replaceChildren(...letters.map((l) => row(
      ['n', element('code', {}, l.object_id)], l.sender, l.reason, ['wide', l.detail], ['n', number(l.attempts)], clock(l.failed_at), element('code', {}, l.callback_id),
    )));
    byID('letters-title').textContent = next ? 'Dead letters (the first 20)' : `Dead letters (${letters.length})`;
    if (byID('letters-note').classList.contains('bad')) note('letters-note', '');
  } catch (error) {
    note('letters-note', `Not up to date: ${error.message}`, true);
  }
});

function sure(text, yes) {
  const dialog = byID('confirm-dialog');
  byID('confirm-text').textContent = text;
  byID('confirm-yes').textContent = yes;
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true }));
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  const action = event.submitter?.value ?? 'count';
  attempt('letters-note', async () => {
    const { matched } = await ask('POST', 'admin/dead-letters/redrive', selection({ dry_run: true }));
    const n = Math.min(matched, selection().limit);
    if (action === 'count' || n === 0) {
      note('letters-note', `${number(matched)} dead letters match.`);
      return;
    }
    const [question, yes] = action === 'redrive'
      ? [`${number(n)} ids will be fetched again.`, 'Redrive']
      : [`${number(n)} dead letters will be deleted, and their ids are not fetched again.`, 'Drop'];
    if (!await sure(question, yes)) return;
    note('letters-note', 'Working …');
    const { done } = await ask('POST', `admin/dead-letters/${action}`, selection({ dry_run: false }));
    note('letters-note', `${number(done)} ${action === 'redrive' ? 'redriven' : 'dropped'}.`);
    refresh();
  });
});
