// tasks.js lists the scheduled tasks, and runs them by hand.
import { ask } from './api.js';
import { attempt, byID, clock, element, every, millis, note, row } from './dom.js';

function button(task) {
  const b = element('button', { 'aria-label': `Run ${task.name} now`, disabled: task.running }, task.running ? 'Runs' : 'Run');
  b.addEventListener('click', () => attempt('tasks-note', async () => {
    await ask('POST', `admin/tasks/${task.name}/run`, {});
    note('tasks-note', `${task.name} was started.`);
    refresh();
  }));
  return b;
}

const refresh = every(5000, () => attempt('tasks-note', async () => {
  const { tasks } = await ask('GET', 'admin/tasks');
  const focused = document.activeElement?.getAttribute('aria-label');
  byID('task-rows').replaceChildren(...tasks.map((t) => row(
    element('code', {}, t.name), t.about, t.schedule, clock(t.last_run), ['n', t.runs ? millis(t.duration_ms) : '–'], ['wide', t.error || t.result || '–'], button(t),
  )));
  if (focused) byID('task-rows').querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus(); // who was at a button still is
}));
