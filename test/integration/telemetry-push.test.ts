import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { makeCertificates } from '../support/certificates.ts';
import { otlpProblems } from '../support/otlp-schema.ts';
import { runToEnd } from '../support/proxy.ts';
import { Receiver, type Posted, type Reply } from '../support/receiver.ts';
import { host, SECURITY_CREDENTIALS, type Host } from './host.ts';

const A = '127.0.0.51';
const UNKNOWN = '127.0.0.52';
const LICENSE = '0123456789abcdef0123456789abcdef0123NRAL';

/** A receiver with a certificate, and the file of its authority for NODE_EXTRA_CA_CERTS. */
async function tlsReceiver(t: TestContext): Promise<{ receiver: Receiver; authority: string }> {
  const { ca, server } = makeCertificates();
  const directory = mkdtempSync(join(tmpdir(), 'metadataproxy-telemetry-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const authority = join(directory, 'ca.pem');
  writeFileSync(authority, ca);
  return { receiver: await Receiver.start(t, server), authority };
}

const otlpTo = (receiver: Receiver, env: Record<string, string> = {}): Record<string, string> => ({
  OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
  OTEL_METRIC_EXPORT_INTERVAL: '100',
  ...env,
});

/** The tests cannot receive what is sent to New Relic's endpoint, so any OTLP receiver gets the key. */
const withKey = (receiver: Receiver, authority: string): Record<string, string> => ({
  ...otlpTo(receiver, { OTEL_EXPORTER_OTLP_HEADERS: `api-key=${LICENSE}` }),
  NODE_EXTRA_CA_CERTS: authority,
});

/** Requests of a container with credentials and of an unknown caller. */
async function ask(at: Host): Promise<void> {
  await at.docker.host.run({ address: A, env: { IAM_ROLE: 'app@123456789012' } });
  for (let count = 0; count < 3; count += 1) {
    assert.equal((await at.ask(A, `${SECURITY_CREDENTIALS}app`)).status, 200);
  }
  assert.equal((await at.ask(UNKNOWN, `${SECURITY_CREDENTIALS}app`)).status, 404);
}

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue: string };
}

/** The sum of a metric's points with these attributes. */
function sumIn({ text }: Posted, name: string, attributes: Record<string, string>): number {
  const request = JSON.parse(text) as {
    resourceMetrics: { scopeMetrics: { metrics: {
      name: string; sum?: { dataPoints: { attributes: Attribute[]; asInt: string }[] };
    }[] }[] }[];
  };
  let sum = 0;
  for (const { scopeMetrics } of request.resourceMetrics) {
    for (const metric of scopeMetrics.flatMap(({ metrics }) => metrics)) {
      for (const point of (metric.name === name && metric.sum?.dataPoints) || []) {
        const has = new Map(point.attributes.map(({ key, value }) => [key, value.stringValue]));
        if (Object.entries(attributes).every(([key, value]) => has.get(key) === value)) sum += Number(point.asInt);
      }
    }
  }
  return sum;
}

const HANDLER = 'iam-security-crentials-for-role';

test('an OTLP receiver gets valid JSON in every interval, with cumulative sums', async (t) => {
  const receiver = await Receiver.start(t);
  const at = await host(t, { env: otlpTo(receiver, {
    OTEL_EXPORTER_OTLP_HEADERS: 'api-key=hush', OTEL_SERVICE_NAME: 'proxy', OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
  }) });
  await ask(at);
  const labels = { handler_name: HANDLER, response_code: '200', role_name: 'app' };
  const refused = { handler_name: HANDLER, response_code: '404' };
  const post = await receiver.posts.first((one) => {
    const count = (attributes: Record<string, string>): number => sumIn(one, 'metadataproxy.http_request', attributes);
    return count(labels) === 3 && count(refused) === 1;
  });
  assert.equal(post.path, '/v1/metrics');
  assert.equal(post.headers['api-key'], 'hush');
  for (const { text } of receiver.posts.entries) assert.deepEqual(otlpProblems(JSON.parse(text)), []);
  assert.match(post.text, /"service.name","value":\{"stringValue":"proxy"\}/);
  const later = await receiver.posts.next();
  assert.equal(sumIn(later, 'metadataproxy.http_request', labels), 3, 'the sum is cumulative');
  assert.deepEqual(await at.proxy.stop(), { code: 0, signal: null });
});

test('the last metrics are sent at shutdown', async (t) => {
  const receiver = await Receiver.start(t);
  const at = await host(t, { env: otlpTo(receiver, { OTEL_METRIC_EXPORT_INTERVAL: '86400000' }) });
  await ask(at);
  assert.equal(receiver.posts.entries.length, 0);
  await at.proxy.stop();
  const [post, ...others] = receiver.posts.entries;
  assert.deepEqual(others, []);
  assert.equal(sumIn(post ?? assert.fail(), 'metadataproxy.http_request', { response_code: '200' }), 3);
});

test('an OTLP receiver gets metrics and the key over verified TLS, and no log line has the key', async (t) => {
  const { receiver, authority } = await tlsReceiver(t);
  const at = await host(t, { env: withKey(receiver, authority) });
  await ask(at);
  const post = await receiver.posts.first((one) => sumIn(one, 'metadataproxy.http_request', { response_code: '200' }) === 3);
  assert.equal(post.headers['api-key'], LICENSE);
  await at.proxy.stop();
  for (const { text } of at.proxy.logs.entries) assert.ok(!text.includes(LICENSE), text);
});

test('a receiver with an untrusted certificate gets neither metrics nor the key', async (t) => {
  const { receiver, authority } = await tlsReceiver(t);
  const env = { ...withKey(receiver, authority), NODE_EXTRA_CA_CERTS: '' };
  const at = await host(t, { env });
  const { fields } = await at.proxy.awaitLog('cannot export metrics; retrying');
  assert.match(String(fields['error']), /certificate/);
  await at.proxy.stop();
  assert.equal(receiver.posts.entries.length, 0);
});

test('a refused key is logged once, without the key', async (t) => {
  const { receiver, authority } = await tlsReceiver(t);
  receiver.always = { status: 403, body: `{"error":"${LICENSE}"}` };
  const at = await host(t, { env: { ...withKey(receiver, authority), ENABLE_PROMETHEUS: 'true' } });
  await receiver.posts.several(3);
  const { body } = await at.askOperator('/metrics');
  assert.match(body, /metadataproxy_telemetry_dropped_total\{backend="otlp"\} [1-9]/);
  await at.proxy.stop();
  const about = at.proxy.logs.all(({ msg }) => /metrics/.test(msg));
  assert.deepEqual(about.map(({ fields }) => [fields['backend'], fields['error']]), [['otlp', 'the receiver answered 403']]);
  for (const { text } of at.proxy.logs.entries) assert.ok(!text.includes(LICENSE), text);
});

for (const reply of ['silence', 'endless', 'half', 'reset', 'garbage', 'endless headers',
  'endless interim answers', 'upgrade', { status: 503 },
  { status: 429, headers: { 'Retry-After': '99999999999999999999' } }] satisfies Reply[]) {
  const name = typeof reply === 'string' ? reply : `status ${reply.status}`;
  test(`a receiver that answers ${name} delays neither requests nor the exit`, async (t) => {
    const receiver = await Receiver.start(t);
    receiver.always = reply;
    const at = await host(t, { env: otlpTo(receiver, { OTEL_EXPORTER_OTLP_TIMEOUT: '300' }) });
    await ask(at);
    await receiver.posts.first();
    // Without a time limit: the requests are answered during the receiver's reply, or this test never ends.
    for (let count = 0; count < 200; count += 1) assert.equal((await at.ask(A, '/creds')).status, 200);
    assert.deepEqual(await at.proxy.stop(), { code: 0, signal: null });
    assert.ok(at.proxy.logs.all(({ msg }) => msg === 'unexpected').length === 0);
    assert.ok(at.proxy.logs.all(({ msg }) => msg === 'cannot export metrics; retrying').length <= 1);
  });
}

test('sums continue after a receiver recovers', async (t) => {
  const receiver = await Receiver.start(t);
  receiver.always = { status: 503 };
  const at = await host(t, { env: otlpTo(receiver) });
  await ask(at);
  await at.proxy.awaitLog('cannot export metrics; retrying');
  receiver.always = { status: 200, body: '{}' };
  await at.proxy.awaitLog('metrics export recovered');
  const labels = { handler_name: HANDLER, response_code: '200' };
  await receiver.posts.next((one) => sumIn(one, 'metadataproxy.http_request', labels) === 3);
});

test('an unsupported protocol is an invalid setting; the error names the supported one', async () => {
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4317', OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' };
  const { code, stderr } = await runToEnd({ env });
  assert.equal(code, 2);
  assert.match(stderr, /OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" is invalid: expected "http\/json"/);
});

test('an invalid key is refused, and the error does not contain it', async () => {
  const { code, stderr } = await runToEnd({ env: { NEWRELIC_LICENSE: 'hush hush' } });
  assert.equal(code, 2);
  assert.match(stderr, /NEWRELIC_LICENSE: its value \(secret\) is invalid: expected a license key/);
  assert.doesNotMatch(stderr, /hush/);
});
