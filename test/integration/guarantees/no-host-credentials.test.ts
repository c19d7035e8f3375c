import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { hostIdentityIn } from '../../support/generous-path.ts';
import { parseResponses } from '../../support/http-bytes.ts';
import { HOST_MARK, Imds } from '../../support/imds.ts';
import { SeededRandom } from '../../support/seeded-random.ts';
import { oddMethod, oddTarget } from '../../support/target-grammar.ts';
import { accessKeyIn, host, INSTANCE_ID_PATH, SECURITY_CREDENTIALS } from '../host.ts';
import { inParallel, KeepAliveClient, sendAll } from './keep-alive-client.ts';
import { arnOf, sized } from './scale.ts';

const { docker, imds, sts, proxy, ask } = await host({ after }, {
  env: { MAX_REQUESTS_PER_SECOND: '0', READ_TIMEOUT: '2s' },
});
const { port } = proxy;
const [APP, UNKNOWN] = ['127.0.0.11', '127.0.0.99'];
await docker.host.run({ name: 'app', address: APP, env: { IAM_ROLE: arnOf('app') } });

/** Credentials in an answer must belong to the container's role. */
function assertOnlyAppCredentials(text: string, what: string): void {
  assert.ok(!text.includes(HOST_MARK), `${JSON.stringify(what)} was answered with the host's credentials: ${text}`);
  for (const [key] of text.matchAll(/\b(?:ASIA|AKIA)\w+/g)) {
    assert.equal(sts.issuedAs(key).call.roleArn, arnOf('app'), JSON.stringify(what));
  }
}

/** No forwarded request can be read as one for the host's credentials. */
function assertUpstreamHarmless(): void {
  for (const { method, target, version, rawHeaders, body } of imds.requests.entries) {
    const what = `${method} ${JSON.stringify(target)} was forwarded`;
    assert.equal(hostIdentityIn(target), undefined, what);
    assert.match(target, /^\/(?!\/)[\w\-.~:@!$&'()*+,=/]*$/, what);
    assert.doesNotMatch(target, /\/\/|\/\.{1,2}(\/|$)/, what);
    assert.ok(['GET', 'HEAD'].includes(method) || (method === 'PUT' && target === '/latest/api/token'), what);
    assert.equal(version, 'HTTP/1.1');
    assert.equal(body, '', what);
    const names = rawHeaders.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
    assert.ok(!names.some((name) => /transfer-encoding|upgrade|expect|x-smuggled/.test(name)), `${names}`);
  }
}

interface Odd {
  readonly target: string;
  readonly bytes: string;
  /** Contains bytes that may end a line or a request, so there may be several answers. */
  readonly isSplit: boolean;
}

function oddRequests(random: SeededRandom, count: number): Odd[] {
  const requests = new Map<string, Odd>();
  while (requests.size < count) {
    let target = oddTarget(random);
    const isSplit = random.chance(0.01);
    if (isSplit) {
      const at = random.int(0, target.length);
      target = target.slice(0, at) + random.pick(SPLITS) + target.slice(at);
    }
    const version = random.chance(0.97) ? 'HTTP/1.1' : random.pick(['HTTP/1.0', 'HTTP/2.0', 'http/1.1', 'HTTP/1.10', '']);
    const bytes = `${oddMethod(random)} ${target} ${version}\r\nHost: ${random.pick(HOSTS)}\r\n\r\n`;
    requests.set(bytes, { target, bytes, isSplit: isSplit || version !== 'HTTP/1.1' });
  }
  return [...requests.values()];
}

const SPLITS = [
  '\n', '\r', '\r\n', ' ', '\t', '\r\n\r\n', '\n\n', ` HTTP/1.1\r\nHost: x\r\n\r\nGET ${SECURITY_CREDENTIALS}a-role`,
  ' HTTP/1.1\r\nX-Smuggled: 1\r\nX:', ` HTTP/1.1\n\nGET ${SECURITY_CREDENTIALS}`,
];
const HOSTS = ['169.254.169.254', '169.254.169.254', 'x', 'instance-data', '[fd00:ec2::254]'];
const COUNT = sized(20_000, 200_000);
const CLIENTS = 32;

test(`${COUNT} distinct odd requests never get a byte of the host's credentials`, async (t) => {
  const random = SeededRandom.fromEnvironment(process.env, 20_240_411);
  const requests = oddRequests(random, COUNT);
  assert.equal(new Set(requests.map(({ bytes }) => bytes)).size, COUNT);
  const statuses = new Map<number, number>();
  imds.requests.clear();
  const began = Date.now();
  const clients = Array.from({ length: CLIENTS }, (_, index) => new KeepAliveClient(port, index % 4 === 3 ? UNKNOWN : APP));
  await inParallel(requests, CLIENTS, async ({ bytes, isSplit }, worker) => {
    if (isSplit) {
      const text = await sendAll(port, worker % 4 === 3 ? UNKNOWN : APP, bytes);
      assertOnlyAppCredentials(text, bytes);
      const [first] = parseResponses(text, bytes.startsWith('HEAD '), true);
      count(statuses, first?.status ?? 0);
      return;
    }
    const { text, status, failure } = await clients[worker]?.ask(bytes) ?? assert.fail();
    assertOnlyAppCredentials(text, bytes);
    assert.notEqual(failure, 'HUNG', JSON.stringify(bytes));
    // Every request gets an answer.
    assert.ok([200, 400, 404, 405, 431].includes(status), `${JSON.stringify(bytes)} was answered ${status} ${failure}`);
    count(statuses, status);
  });
  for (const client of clients) client.close();
  assertUpstreamHarmless();
  const upstream = imds.requests.entries.length;
  t.diagnostic(`seed ${random.seed}: ${COUNT} requests in ${Date.now() - began} ms, answered ${tally(statuses)}; `
    + `${upstream} forwarded; the host's mark 0 times`);
});

test('without the proxy the same requests get the host\'s credentials', async (t) => {
  const direct = await Imds.start();
  t.after(() => direct.close());
  const sample = oddRequests(SeededRandom.fromEnvironment(process.env, 20_240_411), COUNT);
  // The fake IMDS writes head and body separately, so each answer takes a delayed acknowledgement.
  const concurrency = 16 * CLIENTS;
  const clients = Array.from({ length: concurrency }, () => new KeepAliveClient(direct.port, APP));
  let marked = 0;
  await inParallel(sample, concurrency, async ({ bytes, isSplit }, worker) => {
    const client = clients[worker] ?? assert.fail();
    const { text } = await client.ask(bytes);
    // The rest of this request must not become part of the next one.
    if (isSplit) client.close();
    if (text.includes(HOST_MARK)) marked += 1;
  });
  for (const client of clients) client.close();
  t.diagnostic(`without the proxy ${marked} of ${COUNT} requests get the host's mark`);
  assert.ok(marked > COUNT / 2, `only ${marked} of ${COUNT}: the generated requests are too harmless`);
});

const PLAIN = `${SECURITY_CREDENTIALS}a-role`;
const SECOND = `GET ${PLAIN} HTTP/1.1\r\nHost: x\r\n\r\n`;
const FRAMINGS: readonly string[] = [
  `Content-Length: ${SECOND.length}`, 'Content-Length: 0\r\nContent-Length: 5', `Content-Length: 0, ${SECOND.length}`,
  'Content-Length: +5', 'Content-Length: 0x5', 'Content-Length: 5 ', 'Content-Length:\t5', 'Content-Length: -1',
  'Content-Length: 99999999999999999999', 'Content-Length : 5', ' Content-Length: 5', 'Content\0-Length: 5',
  'Transfer-Encoding: chunked', 'Transfer-Encoding: Chunked', 'Transfer-Encoding: identity',
  'Transfer-Encoding: chunked, identity', 'Transfer-Encoding: identity, chunked', 'Transfer-Encoding: gzip, chunked',
  'Transfer-Encoding:\tchunked', 'Transfer-Encoding: "chunked"', 'Transfer-Encoding : chunked',
  ' Transfer-Encoding: chunked', 'Transfer_Encoding: chunked', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: x',
  'Transfer-Encoding:\r\n chunked', 'X: y\r\n Transfer-Encoding: chunked', 'X: y\nTransfer-Encoding: chunked',
  'X: y\rTransfer-Encoding: chunked', 'Transfer-Encoding: chunked\r\nContent-Length: 5',
  'Content-Length: 5\r\nTransfer-Encoding: chunked', 'Content-Length: 0\r\nTransfer-Encoding: chunked',
  'Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__',
  'Upgrade: websocket\r\nConnection: Upgrade', 'Upgrade: TLS/1.0\r\nConnection: Upgrade', 'Expect: 100-continue',
  'Expect: 100-continue\r\nContent-Length: 5', 'Expect: 200-ok', 'Connection: close', 'Connection: keep-alive, close',
  'Connection: Content-Length\r\nContent-Length: 5', 'TE: trailers\r\nTrailer: Content-Length', '',
  `X-Original-URL: ${PLAIN}\r\nX-Rewrite-URL: ${PLAIN}`, 'X-HTTP-Method-Override: PUT', 'X-Forwarded-For: 127.0.0.11',
  `Host: 127.0.0.1${PLAIN}`, 'X: a\0b', ': x', 'nonsense', 'X: \x7f', `X: ${'a'.repeat(9_000)}`,
];
const BODIES: readonly string[] = [
  '', SECOND, `0\r\n\r\n${SECOND}`, `${SECOND.length.toString(16)}\r\n${SECOND}\r\n0\r\n\r\n`, `0\n\n${SECOND}`,
  `0;x=\n${SECOND}`, `1\r\nX\r\n0\r\nX-Smuggled: 1\r\n\r\n${SECOND}`, `fffffffffffffffff\r\n${SECOND}`, `-1\r\n${SECOND}`,
  `nonsense\r\n\r\n${SECOND}`, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', `\0${SECOND}`, `\r\n\r\n${SECOND}`,
];
const FIRST_LINES: readonly string[] = [
  `GET ${INSTANCE_ID_PATH} HTTP/1.1`, `HEAD ${INSTANCE_ID_PATH} HTTP/1.1`, `POST ${INSTANCE_ID_PATH} HTTP/1.1`,
  `PUT /latest/api/token HTTP/1.1`, `GET ${INSTANCE_ID_PATH} HTTP/1.0`, `GET ${PLAIN} HTTP/1.1`, `GET ${PLAIN} HTTP/1.0`,
  `TRACE ${PLAIN} HTTP/1.1`, 'CONNECT 169.254.169.254:80 HTTP/1.1', `CONNECT ${PLAIN} HTTP/1.1`, 'OPTIONS * HTTP/1.1',
  'PRI * HTTP/2.0', `GET ${PLAIN}`, `GET ${PLAIN} HTTP/3`, 'no request at all', `GET ${INSTANCE_ID_PATH}\tHTTP/1.1`,
];

/** Request smuggling: every first line with every framing with every body. */
function smuggled(): string[] {
  return FIRST_LINES.flatMap((line) => FRAMINGS.flatMap((framing) => BODIES.flatMap((body) => {
    const head = ['', 'Host: 169.254.169.254', ...(framing === '' ? [] : [framing])].join('\r\n');
    return [`${line}${head}\r\n\r\n${body}`];
  })));
}

test('no trick with headers and bodies gets a byte of the host\'s credentials or an upgrade', async (t) => {
  const all = SeededRandom.fromEnvironment(process.env, 1).shuffle(smuggled()).slice(0, sized(3_000, Infinity));
  imds.requests.clear();
  const began = Date.now();
  let answers = 0;
  await inParallel(all, CLIENTS, async (bytes, worker) => {
    const text = await sendAll(port, worker % 4 === 3 ? UNKNOWN : APP, bytes);
    assertOnlyAppCredentials(text, bytes);
    assert.doesNotMatch(text, /^HTTP\/1\.1 (?:100|101) /m, JSON.stringify(bytes));
    assert.doesNotMatch(text, /echo|X-Smuggled/, JSON.stringify(bytes));
    answers += (text.match(/^HTTP\/1\.1 \d{3} /gm) ?? []).length;
  });
  assertUpstreamHarmless();
  t.diagnostic(`${all.length} requests with ${answers} answers in ${Date.now() - began} ms; `
    + `${imds.requests.entries.length} forwarded; the host's mark 0 times`);
});

test('afterwards the proxy still serves the container\'s role, without an unexpected error', async () => {
  const answer = await ask(APP, '/creds');
  assert.equal(sts.issuedAs(accessKeyIn(answer)).call.roleArn, arnOf('app'));
  assert.deepEqual(proxy.logs.all(({ level }) => level === 'error').map(({ text }) => text), []);
});

function count(counts: Map<number, number>, status: number): void {
  counts.set(status, (counts.get(status) ?? 0) + 1);
}

function tally(counts: ReadonlyMap<number, number>): string {
  return [...counts].sort(([a], [b]) => a - b).map(([status, times]) => `${status}: ${times}`).join(', ');
}
