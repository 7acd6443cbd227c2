// Looks at the dashboard in a headless Chromium, as TestDashboard wants it: prints "stop" when the second service is to be stopped, and ends
// with status 1 and the reason when something is not as it should be.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { MODULES, CHROMIUM, DASHBOARD, GUARDED, TOKEN, LETTER, SCREENSHOT } = process.env;
const require = createRequire(`${MODULES}/`);
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

// open shows the page; whatever the browser complains of, and whatever the page asks of elsewhere, fails the test.
const complaints = [];
async function open(url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 1000 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
  page.on('request', (request) => new URL(request.url()).host === new URL(url).host || complaints.push(`it asks for ${request.url()}`));
  await page.goto(url);
  return page;
}

const text = (page, selector) => page.locator(selector).innerText();
const becomes = (page, selector, pattern) => page.locator(selector).filter({ hasText: pattern }).first().waitFor();
const tile = (name) => `[data-tile="${name}"]`;

async function accessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target).join(' ')}`), [], what);
}

// tabTo moves the focus with the Tab key alone.
async function tabTo(page, selector) {
  for (let i = 0; i < 60; i++) {
    await page.keyboard.press('Tab');
    if (await page.evaluate((s) => document.activeElement?.matches(s), selector)) return;
  }
  assert.fail(`the Tab key does not lead to ${selector}`);
}

const page = await open(DASHBOARD);

// Values move while traffic flows.
await becomes(page, '#connection', 'live');
await becomes(page, tile('Accepted'), /[1-9]/);
await becomes(page, tile('Source'), 'up');
await becomes(page, tile('Database'), 'up');
await becomes(page, '#callback-rows', 'done');
const before = [await text(page, '#callback-rows'), await text(page, '#figures')];
await page.waitForFunction(([rows, figures]) => document.getElementById('callback-rows').innerText !== rows && document.getElementById('figures').innerText !== figures, before);
assert.equal(await page.locator('#figures canvas').count(), 8);
await page.selectOption('#callbacks-status', 'done');
await page.waitForFunction(() => [...document.querySelectorAll('#callback-rows tr')].every((row) => row.cells[3].innerText === 'done'));
await page.selectOption('#callbacks-status', '');
await becomes(page, '#findings', 'Nothing holds objects up.');

// A setting is changed, with the keyboard alone; a bad one says why.
await tabTo(page, '.skip');
await tabTo(page, 'input[name=pool_workers]');
await page.keyboard.press('Control+A');
await page.keyboard.type('7');
await page.keyboard.press('Enter');
await becomes(page, '#settings-note', 'Changed: Workers.');
await becomes(page, tile('Fetches in flight'), 'of 7');
await page.fill('input[name=object_ttl]', 'soon');
await page.click('#settings-form button.strong');
await becomes(page, '#settings-note.bad', 'object_ttl');
await page.click('#settings-form button[type=reset]');
assert.equal(await page.inputValue('input[name=object_ttl]'), '1h0m0s');
await page.check('input[name=paused]');
await page.click('#settings-form button.strong');
await becomes(page, '#findings [data-code=paused]', 'paused');
await page.uncheck('input[name=paused]');
await page.click('#settings-form button.strong');
await page.locator('#findings [data-code=paused]').waitFor({ state: 'detached' });

// A dead letter is shown by its exact id, over 2^53, and redriven.
await becomes(page, '#letter-rows', LETTER);
await page.click('#letters-form button[value=count]');
await becomes(page, '#letters-note', '1 dead letters match.');
await page.click('#letters-form button[value=redrive]');
await page.click('#confirm-dialog button[value=no]');
await becomes(page, '#letter-rows', LETTER);
await page.focus('#letters-form button[value=redrive]');
await page.keyboard.press('Enter');
await page.focus('#confirm-yes');
await page.keyboard.press('Enter');
await becomes(page, '#letters-note', '1 redriven.');
await page.waitForFunction(() => document.getElementById('letter-rows').innerText === '');

// A task runs by hand.
await page.click('[aria-label="Run receipts now"]');
await becomes(page, '#task-rows', 'deleted 0 receipts');

await accessible(page, 'in the light');
if (SCREENSHOT) await page.screenshot({ path: SCREENSHOT });
await page.emulateMedia({ colorScheme: 'dark' });
await accessible(page, 'in the dark');
const phone = await open(DASHBOARD, { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
await becomes(phone, tile('Accepted'), /[1-9]/);
await becomes(phone, '#callback-rows', /[0-9A-Z]{26}/);
assert.equal(await phone.evaluate(() => document.documentElement.scrollWidth), 360, 'nothing is wider than a phone');
await accessible(phone, 'on a phone');
assert.deepEqual(complaints.splice(0).filter((c) => !c.includes('422')), [], 'but for the bad setting'); // the browser tells of each status of an error

// Where there is a token the page asks for it; and when the service is gone it says so.
const guarded = await open(GUARDED);
await guarded.fill('#token-form input', 'wrong');
await guarded.keyboard.press('Enter');
await becomes(guarded, '#token-note', 'not the token');
await accessible(guarded, 'the dialog');
await guarded.fill('#token-form input', TOKEN);
await guarded.keyboard.press('Enter');
await becomes(guarded, '#connection', 'live');
await becomes(guarded, tile('Database'), 'up');
await guarded.reload();
await becomes(guarded, '#connection', 'live');
assert.deepEqual(complaints.splice(0).filter((c) => !c.includes('401')), []);
console.log('stop');
await becomes(guarded, '#connection.lost', /shutting down|not connected|does not answer/);

await browser.close();
