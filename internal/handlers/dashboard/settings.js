// settings.js shows the settings that may change while the service runs, and changes them.
import { ask } from './api.js';
import { attempt, byID, element, every, note } from './dom.js';

const about = {
  pool_workers: 'Workers', pool_max_attempts: 'Attempts', object_ttl: 'TTL of objects', object_keep: 'Objects to keep',
  web_rate: 'Callbacks a second of a sender (0: no limit)', log_level: 'Log level', trace_probability: 'Share of traces', paused: 'Paused',
};
const choices = { object_keep: ['all', 'online'], log_level: ['debug', 'info', 'warn', 'error'] };

const form = byID('settings-form');
let current = {};

function field(name, value) {
  let input;
  if (choices[name]) input = element('select', { name }, ...choices[name].map((c) => element('option', { value: c, selected: c === value }, c)));
  else if (typeof value === 'boolean') input = element('input', { name, type: 'checkbox', checked: value });
  else if (typeof value === 'number') input = element('input', { name, type: 'number', value, min: 0, step: 'any', required: true, size: 8 });
  else input = element('input', { name, value, required: true, size: 8, autocomplete: 'off' });
  return element('label', {}, about[name] ?? name, input);
}

function show(settings) {
  current = settings;
  byID('settings-fields').replaceChildren(...Object.entries(settings).map(([name, value]) => field(name, value)));
}

// changes are the fields that a person has changed.
function changes() {
  const changed = {};
  for (const [name, old] of Object.entries(current)) {
    const input = form.elements[name];
    const value = typeof old === 'boolean' ? input.checked : typeof old === 'number' ? Number(input.value) : input.value.trim();
    if (value !== old) changed[name] = value;
  }
  return changed;
}

every(10_000, async () => {
  if (Object.keys(current).length && (form.contains(document.activeElement) || Object.keys(changes()).length)) return; // somebody is at it
  await attempt('settings-note', async () => show(await ask('GET', 'admin/config')));
});

form.addEventListener('submit', (event) => {
  event.preventDefault();
  attempt('settings-note', async () => {
    const changed = changes();
    if (!Object.keys(changed).length) {
      note('settings-note', 'Nothing was changed.');
      return;
    }
    show(await ask('PATCH', 'admin/config', changed));
    note('settings-note', `Changed: ${Object.keys(changed).map((name) => about[name] ?? name).join(', ')}.`);
  });
});
