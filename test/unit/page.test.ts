import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { html } from '../../lib/admin/html.ts';
import { page } from '../../lib/admin/page.ts';
import { roleRows } from '../../lib/admin/role-rows.ts';
import { AdminServer } from '../../lib/admin/server.ts';
import type { RequestSummary } from '../../lib/admin/status.ts';
import { request } from '../support/client.ts';
import { aRow, aStatus, NO_REQUESTS, NOW } from './helpers/status.ts';

const HOSTILE = `</td></style></script><script>alert(1)</script><img src=x onerror=alert(1)> " onfocus="alert(1)" ' & &lt;`;

test('a template escapes what is put in, once, and keeps markup within markup', () => {
  assert.equal(
    html`<a title="${`"'<&>`}">${[html`<b>${'<'}</b>`, 7]}${''}</a>`.text,
    '<a title="&quot;&#39;&lt;&amp;&gt;"><b>&lt;</b>7</a>',
  );
});

test('what turns text around, hides or controls is shown as a mark', () => {
  assert.equal(html`${'a\u202eb\u0000c\u200bd\u001be'}`.text, 'a\ufffdb\ufffdc\ufffdd\ufffde');
});

test('nothing that a container is named or asks for becomes markup, wherever it is shown', () => {
  const row = aRow({
    name: HOSTILE, id: HOSTILE, image: HOSTILE, addresses: [HOSTILE], role: HOSTILE, role_arn: HOSTILE, source: HOSTILE,
    error: HOSTILE,
  });
  const text = page(
    aStatus({
      checks: { [HOSTILE]: { ok: false, detail: HOSTILE } },
      ready: false,
      docker: { state: 'failing', last_success: null, last_error: { time: NOW, message: HOSTILE } },
      containers: [row, { ...row, error: null, last_error: { time: NOW, message: HOSTILE } }, { ...row, role: null }],
      roles: roleRows([row]),
      errors: [{ message: HOSTILE, about: HOSTILE, error: HOSTILE, count: 1, first: NOW, last: NOW }],
      settings: [{ name: HOSTILE, value: HOSTILE, source: HOSTILE }],
    }),
  );
  const plain = page(aStatus());
  const count = (found: string, what: RegExp): number => found.match(what)?.length ?? 0;
  for (const tag of [/<script/g, /<\/script/g, /<style/g, /<\/style/g, /<img/g])
    assert.equal(count(text, tag), count(plain, tag), String(tag));
  assert.doesNotMatch(text, /<[^>]*\son\w+=/);
  assert.ok(count(text, /&lt;img src=x onerror=alert\(1\)&gt;/g) >= 15);
});

test('the policy lets run and load what stands in the page, and nothing else', async (t) => {
  const admin = new AdminServer({ readiness: () => ({}), status: () => aStatus({ containers: [aRow()] }) });
  const port = await admin.listen('', 0);
  t.after(() => admin.close());
  const { status, headers, body } = await request({ port, path: '/' });
  const policy = new Map((headers['content-security-policy'] ?? '').split('; ').map((part) => {
    const [name = '', ...values] = part.split(' ');
    return [name, values.join(' ')];
  }));
  const hashOf = (tag: string): string => {
    const [, text = ''] = new RegExp(`<${tag}>([^]*?)</${tag}>`).exec(body) ?? [];
    return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  };
  assert.deepEqual(Object.fromEntries(policy), {
    'default-src': "'none'", 'style-src': hashOf('style'), 'script-src': hashOf('script'), 'connect-src': "'self'",
    'img-src': 'data:', 'frame-ancestors': "'none'", 'base-uri': "'none'", 'form-action': "'none'",
  });
  assert.deepEqual(
    ['content-type', 'x-frame-options', 'x-content-type-options', 'referrer-policy', 'cross-origin-resource-policy',
      'cache-control'].map((name) => headers[name]),
    ['text/html; charset=utf-8', 'DENY', 'nosniff', 'no-referrer', 'same-origin', 'no-store'],
  );
  assert.equal(status, 200);
  assert.doesNotMatch(body, /\sstyle="/, 'no style in an attribute, which the policy would refuse');
  assert.doesNotMatch(body, /(?:src|href)="(?:https?:)?\/\//, 'nothing from elsewhere');
});

test('what is not ready is said first, with the reason', () => {
  const ready = page(aStatus());
  assert.match(ready, /<title>metadataproxy<\/title>/);
  assert.doesNotMatch(ready, /may not be served/);
  const text = page(aStatus({ ready: false, checks: { docker: { ok: false, detail: 'starting' } } }));
  assert.match(text, /<title>Not ready: metadataproxy<\/title>/);
  assert.match(text, /may not be served:.*Docker: starting/s);
});

test('containers that need looking at come first, the others by name, with numbers in order', () => {
  const names = ['web-10', 'web-2', 'api', 'broken'];
  const containers = names.map((name) => aRow({ name, error: name === 'broken' ? 'denied' : null }));
  const shown = [...page(aStatus({ containers })).matchAll(/<span class="name">(.*?)<\/span>/g)].map(([, name]) => name);
  assert.deepEqual(shown, ['broken', 'api', 'web-2', 'web-10']);
});

test("a container's row has its role and where that comes from, what is left of its credentials, and its last error", () => {
  const row = aRow({ requests: 1234, last_error: { time: '2026-01-02T03:01:05.000Z', message: 'another role' } });
  const text = page(aStatus({ containers: [row] }));
  const [, cells = ''] = /<tbody role="rowgroup">\n(<tr.*?<\/tr>)/s.exec(text) ?? [];
  const told = cells.replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' ').trim();
  assert.equal(
    told,
    'web c0ffee000000 image 172.17.0.2 app variable IAM_ROLE ready 1:00:00 1,234 another role 3 min ago',
  );
});

test('a thousand containers make a page of 500, which says so', () => {
  const containers = Array.from({ length: 1000 }, (_, index) => aRow({ name: `c${index}` }));
  const text = page(aStatus({ containers }));
  assert.equal(text.match(/<span class="name">/g)?.length, 500);
  assert.match(text, /500 more are in \/status/);
});

test('a role is the worst of what its containers have, and the first to expire', () => {
  const rows = roleRows([
    aRow({ role: 'b', expires: '2026-01-02T05:00:00.000Z' }),
    aRow({ role: 'b', expires: '2026-01-02T04:00:00.000Z' }),
    aRow({ role: 'b', credentials: 'failing', expires: null, role_arn: null, error: 'denied' }),
    aRow({ role: 'a' }),
    aRow({ role: null }),
  ]);
  assert.deepEqual(rows.map(({ role, containers }) => [role, containers]), [['a', 1], ['b', 3]]);
  assert.deepEqual(rows[1], {
    role: 'b', role_arn: 'arn:aws:iam::123456789012:role/app', containers: 3, credentials: 'failing',
    expires: '2026-01-02T04:00:00.000Z', error: 'denied',
  });
});

// The chart

const some = (more: Partial<RequestSummary>): RequestSummary => ({ ...NO_REQUESTS, requests: 10, p50: 0.001, p99: 0.01, ...more });

test('the chart says in words what it shows', () => {
  const minutes = Array.from({ length: 60 }, (_, index) => (index === 59 ? some({ refused: 2, failed: 1 }) : NO_REQUESTS));
  const text = page(aStatus({ minutes, last_hour: some({ refused: 2, failed: 1 }) }));
  assert.match(text, /<desc[^>]*>10 requests in the last hour, at most 10 in one minute; 2 refused, 1 failed\.<\/desc>/);
  assert.match(text, /<desc[^>]*>In the last hour the median latency was 1\.0 ms, the 99th percentile 10 ms\.<\/desc>/);
  const heights = [...text.matchAll(/<rect class="(\w+)" x="59" y="[\d.]+" width="[\d.]+" height="([\d.]+)"/g)];
  assert.deepEqual(heights.map(([, kind, height]) => [kind, Number(height)]), [['served', 70], ['refused', 20], ['failed', 10]]);
});

test('the chart has no number that is none, whatever there was', () => {
  const odd = [NO_REQUESTS, some({ p50: 0.00005, p99: 0.00005 }), some({ requests: 1e6, p50: 10, p99: 10 })];
  for (const one of odd) {
    const minutes = Array.from({ length: 60 }, (_, index) => (index % 2 === 0 ? one : NO_REQUESTS));
    const [, svg = ''] = /(<svg.*<\/svg>)/s.exec(page(aStatus({ minutes, last_hour: one }))) ?? [];
    assert.doesNotMatch(svg, /NaN|Infinity|undefined|null|="-/);
  }
});
