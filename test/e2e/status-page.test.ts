// The status page in a real browser, with 40 containers. The screenshots are in build/screenshots.
import { strict as assert } from 'node:assert';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { host, until } from '../integration/host.ts';
import { Browser, type Tab, type View } from '../support/browser.ts';

const SCREENSHOTS = 'build/screenshots';
const AXE = readFileSync('build/tools/node_modules/axe-core/axe.min.js', 'utf8');
/** Text that would run a script or break the page if it became markup. */
const HOSTILE = `<script>document.title='hostile'</script><img src=x onerror="document.title='hostile'">"'&amp;`;
const ACCOUNT = '123456789012';

const own = await host({ after }, { env: { DEFAULT_ACCOUNT_ID: ACCOUNT, ALLOWED_ROLES: `arn:aws:iam::${ACCOUNT}:role/*` } });
const url = `http://127.0.0.1:${own.proxy.adminPort}/`;
await makeCrowd();
const browser = Browser.start();
after(() => browser.close());
const tab = await browser.open();

/** 40 containers of a small shop: with and without roles, one denied, one with an invalid role. */
async function makeCrowd(): Promise<void> {
  const { docker, sts, imds, ask } = own;
  const service = ['web', 'cart', 'search', 'orders', 'mail', 'images', 'billing', 'worker'];
  sts.fault({ kind: 'deny' }, `arn:aws:iam::${ACCOUNT}:role/billing`);
  for (let index = 0; index < 40; index += 1) {
    const name = service[index % service.length] ?? '';
    const hostile = index === 39;
    await docker.host.run({
      name: `${name}-${index}`,
      image: hostile ? HOSTILE : `registry.example.com/shop/${name}:2026.11.${index % 5}`,
      address: `127.0.40.${index + 1}`,
      ...(hostile || index === 30 ? { labels: { 'metadataproxy.role': hostile ? HOSTILE : 'web' } } : {}),
      ...(index % 10 === 9 ? {} : { env: { IAM_ROLE: name } }),
    });
  }
  imds.fault('/latest/meta-data/slow', { kind: 'reset' });
  for (let index = 0; index < 40; index += 1) {
    const from = `127.0.40.${index + 1}`;
    for (let times = 0; times <= index % 7; times += 1) await ask(from, '/creds');
    await ask(from, '/latest/meta-data/instance-id');
  }
  await ask('127.0.40.1', '/latest/meta-data/slow');
  await ask('127.0.40.2', '/latest/meta-data/iam/security-credentials/another');
  await until(() => own.askOperator('/readyz'), ({ status }) => status === 200);
}

async function show(view: View): Promise<Tab> {
  await tab.show(url, view);
  return tab;
}

const VIEWS: readonly View[] = [360, 1600].flatMap((width) =>
  (['light', 'dark'] as const).map((scheme) => ({ width, scheme })),
);

for (const view of VIEWS) {
  const name = `${view.width}-${view.scheme}`;
  test(`the page at ${view.width} px, ${view.scheme}: no horizontal scroll, accessible, no browser errors`, async () => {
    await show(view);
    mkdirSync(SCREENSHOTS, { recursive: true });
    writeFileSync(`${SCREENSHOTS}/status-${name}.png`, await tab.screenshot());
    const widths = await tab.evaluate<number[]>('[document.documentElement.scrollWidth, innerWidth]');
    assert.ok((widths[0] ?? 0) <= view.width, `scrolls sideways: ${widths}`);
    await tab.evaluate("document.querySelector('details').open = true");
    assert.ok((await tab.evaluate<number>('document.documentElement.scrollWidth')) <= view.width, 'with the settings open');
    // The content security policy blocks foreign scripts; the debugger can inject this one.
    await tab.evaluate(`${AXE}; 0`);
    const violations = await tab.evaluate<{ id: string; nodes: unknown[] }[]>(
      `axe.run(document).then(({ violations }) => violations.map(({ id, nodes }) =>
        ({ id, nodes: nodes.slice(0, 3).map(({ html, failureSummary }) => [html, failureSummary]) })))`,
    );
    assert.deepEqual(violations, []);
    assert.deepEqual(tab.complaints, []);
  });
}

test('the page has a row for each container, and container names are never run as script', async () => {
  await show({ width: 1600 });
  assert.equal(await tab.evaluate("document.querySelectorAll('table.containers tbody tr').length"), 40);
  assert.equal(await tab.evaluate("document.querySelectorAll('body script').length"), 1);
  assert.equal(await tab.evaluate("document.querySelectorAll('img').length"), 0);
  assert.equal(await tab.evaluate('document.title'), 'metadataproxy');
  assert.ok(await tab.evaluate(`document.body.textContent.includes(${JSON.stringify(HOSTILE)})`));
});

test('the page works without JavaScript', async () => {
  await show({ width: 1600, javascript: false });
  // Only the page's scripts are disabled; the debugger's still run.
  assert.equal(await tab.evaluate("document.querySelectorAll('table.containers tbody tr').length"), 40);
  assert.equal(await tab.evaluate("document.getElementById('refresh-button').hidden"), true);
  assert.match(await tab.evaluate("document.getElementById('refresh-state').textContent"), /without JavaScript/);
  assert.match(await tab.evaluate("document.querySelector('time[data-expires]').textContent"), /^[\d:]+$/);
});

test('the page refreshes itself and keeps focus, scroll position and open sections', async (t) => {
  await show({ width: 1600 });
  await tab.evaluate(`document.querySelector('details').open = true; scrollTo(0, 300);
    document.querySelector('summary').focus({ preventScroll: true }); document.activeElement.mark = 'the same'`);
  const before = await tab.evaluate<number>('scrollY');
  await own.docker.host.run({ name: 'newcomer', address: '127.0.41.1', env: { IAM_ROLE: 'web' } });
  const rows = "document.querySelectorAll('table.containers tbody tr').length";
  await until(() => tab.evaluate<number>(rows), (count) => count === 41);
  assert.deepEqual(
    await tab.evaluate("[scrollY, document.activeElement.mark, document.querySelector('details').open]"),
    [before, 'the same', true],
  );
  assert.deepEqual(tab.complaints, []);
  t.after(() => own.docker.host.remove('newcomer'));
});

test('the button is reachable by keyboard and pauses the refresh', async () => {
  await show({ width: 1600 });
  for (let presses = 0; presses < 2; presses += 1) await tab.press('Tab');
  assert.equal(await tab.evaluate('document.activeElement.id'), 'refresh-button');
  await tab.press('Enter');
  assert.equal(await tab.evaluate("document.getElementById('refresh-state').textContent"), 'Paused');
  assert.equal(await tab.evaluate("document.getElementById('refresh-button').textContent"), 'Resume');
});

// Last, because it ends the proxy.
test('the page says when the proxy does not answer', async () => {
  await show({ width: 360 });
  await own.proxy.stop();
  const state = "document.getElementById('refresh-state').textContent";
  await until(() => tab.evaluate<string>(state), (text) => text.includes('does not answer'));
});
