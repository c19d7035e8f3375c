import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, test } from 'node:test';
import { ODD_REQUESTS, ODD_TARGETS, requestFor } from '../e2e/odd-paths.ts';
import { hostIdentityIn } from '../support/generous-path.ts';
import { HOST_MARK, INSTANCE_ID } from '../support/imds.ts';
import { raw } from '../support/proxy.ts';
import { accessKeyIn, host, INSTANCE_ID_PATH, SECURITY_CREDENTIALS, TTL } from './host.ts';

const { docker, imds, sts, proxy, ask } = await host({ after });
const { port } = proxy;
const [APP, UNKNOWN] = ['127.0.0.11', '127.0.0.99'];
const ARN = 'arn:aws:iam::123456789012:role/app-role';
await docker.host.run({ name: 'app', address: APP, env: { IAM_ROLE: ARN } });

const READ = `GET ${INSTANCE_ID_PATH} HTTP/1.1\r\nHost: x\r\n`;

/** Sends the bytes and gives everything that comes until the proxy hangs up, or `wanted` responses. */
async function send(from: string, bytes: string, wanted = Infinity) {
  const { received, responses, closed } = await raw({ port, from, bytes, responses: wanted });
  return { text: received.toString('latin1'), statuses: responses.map(({ status }) => status), responses, closed };
}

/** What each request made the metadata service read, and nothing that it should not have. */
function assertHarmless(text: string, what: string): void {
  assert.ok(!text.includes(HOST_MARK), `${JSON.stringify(what)} was answered with the host's own: ${text}`);
  for (const { method, target, version } of imds.requests.entries) {
    assert.match(target, /^\/(?!\/)[\w\-.~:@!$&'()*+,=/]*$/, `${JSON.stringify(what)} went upstream as ${target}`);
    assert.doesNotMatch(target, /\/\/|\/\.{1,2}(\/|$)/, `${JSON.stringify(what)} went upstream as ${target}`);
    assert.equal(hostIdentityIn(target), undefined, `${JSON.stringify(what)} went upstream as ${target}`);
    assert.ok(['GET', 'HEAD'].includes(method) || (method === 'PUT' && target === '/latest/api/token'), method);
    assert.equal(version, 'HTTP/1.1');
  }
}

test('there are at least 60 odd targets', () => {
  assert.ok(new Set(ODD_TARGETS).size >= 60);
});

test('no odd target ever gives the host\'s credentials to an unknown address', async () => {
  // At once, so that they share the look-ups of the unknown address.
  const answers = await Promise.all(ODD_TARGETS.map(async (target) => ({
    target, ...await send(UNKNOWN, requestFor(target)),
  })));
  for (const { target, text, statuses } of answers) {
    assertHarmless(text, target);
    assert.ok(['400', '404'].includes(statuses.join()), `${JSON.stringify(target)} was answered ${statuses}`);
  }
});

test('no odd target ever gives a container credentials of another role', async () => {
  for (const target of ODD_TARGETS) {
    const { text, statuses, responses } = await send(APP, requestFor(target));
    assertHarmless(text, target);
    const what = `${JSON.stringify(target)} was answered ${text}`;
    const { status = 0, body = '' } = responses[0] ?? {};
    assert.equal(statuses.length, 1, what);
    assert.ok([200, 400, 404].includes(status), what);
    if (status !== 200) continue;
    const [key] = /ASIA\w+/.exec(body) ?? [];
    const isOwn = key === undefined
      ? body === 'app-role' || body === 'info\nsecurity-credentials/' || body.includes('assumed-role/app-role/')
      : sts.issuedAs(key).call.roleArn === ARN;
    assert.ok(isOwn, what);
  }
});

for (const from of [APP, UNKNOWN]) {
  const who = from === APP ? 'a container' : 'a stranger';
  test(`no odd request ever gives the host's credentials to ${who}`, async () => {
    imds.requests.clear();
    await Promise.all(ODD_REQUESTS.map(async (bytes) => {
      // Behind an Upgrade that is ignored nothing is read: that connection stays open.
      const { text } = await send(from, bytes, bytes.includes('Upgrade') ? 1 : Infinity);
      assertHarmless(text, bytes);
      const [key] = /ASIA\w+/.exec(text) ?? [];
      assert.ok(key === undefined || sts.issuedAs(key).call.roleArn === ARN, bytes);
    }));
  });
}

test('an absolute-form target is 400, whatever host it names', async () => {
  for (const authority of ['169.254.169.254', `127.0.0.1:${port}`, 'example.com', 'user@169.254.169.254', '']) {
    const { statuses } = await send(APP, requestFor(`http://${authority}${INSTANCE_ID_PATH}`));
    assert.deepEqual(statuses, [400], authority);
  }
});

test('an authority-form or asterisk-form target is 400', async () => {
  for (const line of ['GET 169.254.169.254:80', 'GET *', 'OPTIONS *', 'GET localhost', 'GET ?x', 'GET #x']) {
    const { statuses } = await send(APP, `${line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    assert.deepEqual(statuses, [400], line);
  }
});

test('CONNECT is 405, and bytes after it are not served as a request', async () => {
  imds.requests.clear();
  for (const target of ['169.254.169.254:80', '/latest/', `127.0.0.1:${imds.port}`]) {
    const bytes = `CONNECT ${target} HTTP/1.1\r\nHost: x\r\n\r\n${requestFor(INSTANCE_ID_PATH)}`;
    const { statuses, responses, closed } = await send(APP, bytes);
    assert.equal(statuses[0], target.startsWith('/') ? statuses[0] : 405, target);
    assert.ok([405, 400].includes(statuses[0] ?? 0) && statuses.length === 1, `${target}: ${statuses}`);
    assert.ok(closed);
    assert.doesNotMatch(responses[0]?.body ?? '', new RegExp(INSTANCE_ID));
  }
  assert.equal(imds.requests.entries.length, 0);
});

test('TRACE is 405 and echoes nothing', async () => {
  const bytes = `TRACE / HTTP/1.1\r\nHost: x\r\nX-Secret: echo-me\r\nConnection: close\r\n\r\n`;
  const { text, statuses } = await send(APP, bytes);
  assert.deepEqual(statuses, [405]);
  assert.ok(!text.includes('echo-me'));
});

test('an Upgrade is ignored', async () => {
  for (const protocol of ['websocket', 'h2c', 'TLS/1.0']) {
    const bytes = `${READ}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: ${protocol}\r\nHTTP2-Settings: AAA\r\n\r\n`;
    const { statuses, responses } = await send(APP, bytes, 1);
    assert.deepEqual(statuses, [200], protocol);
    assert.equal(responses[0]?.body, INSTANCE_ID);
  }
});

test('an HTTP/2 preface is refused', async () => {
  const { statuses, text } = await send(APP, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0');
  assert.ok(statuses.length <= 1 && statuses.every((status) => status === 400), text);
});

test('HTTP/1.0 is answered, and the connection closed', async () => {
  for (const [target, body] of [[INSTANCE_ID_PATH, INSTANCE_ID], [SECURITY_CREDENTIALS, 'app-role']]) {
    const { statuses, responses, closed } = await send(APP, `GET ${target} HTTP/1.0\r\n\r\n`);
    assert.deepEqual(statuses, [200]);
    assert.equal(responses[0]?.body, body);
    assert.ok(closed);
  }
});

test('an HTTP/1.0 client gets no chunks', async () => {
  const fault = imds.fault('/latest/user-data', { kind: 'chunked' });
  const { text, responses } = await send(APP, 'GET /latest/user-data HTTP/1.0\r\n\r\n');
  fault.lift();
  assert.doesNotMatch(text, /transfer-encoding/i);
  assert.equal(responses[0]?.body, imds.userData.toString());
});

test('pipelined requests are answered in their order', async () => {
  const hold = imds.fault(INSTANCE_ID_PATH, { kind: 'delay', ms: 50 }, 1);
  const bytes = `${READ}\r\nGET ${SECURITY_CREDENTIALS} HTTP/1.1\r\nHost: x\r\n\r\n`
    + requestFor('/latest/meta-data/instance-type');
  const { responses } = await send(APP, bytes);
  assert.equal(hold.hits, 1);
  assert.deepEqual(responses.map(({ body }) => body), [INSTANCE_ID, 'app-role', 't3.micro']);
});

test('a request with Expect: 100-continue is refused for its body, without 100 Continue', async () => {
  for (const framing of ['Content-Length: 10', 'Transfer-Encoding: chunked']) {
    const { text, statuses, closed } = await send(APP, `${READ}Expect: 100-continue\r\n${framing}\r\n\r\n`);
    assert.deepEqual(statuses, [framing.startsWith('C') ? 413 : 400]);
    assert.doesNotMatch(text, /^HTTP\/1\.1 100/);
    assert.ok(closed);
  }
});

test('a request with both Content-Length and Transfer-Encoding is 400, and is not read as two', async () => {
  imds.requests.clear();
  const inner = requestFor(INSTANCE_ID_PATH);
  const framings = [
    'Content-Length: 5\r\nTransfer-Encoding: chunked', 'Transfer-Encoding: chunked\r\nContent-Length: 5',
    'Content-Length: 0\r\nTransfer-Encoding: chunked', 'Transfer-Encoding: identity\r\nContent-Length: 0',
    'Transfer-Encoding: chunked, identity', 'Transfer-Encoding: xchunked', 'Transfer-Encoding : chunked',
    'Content-Length: 0\r\nContent-Length: 5', 'Content-Length: 0, 5', 'Content-Length: +0', 'Content-Length: -1',
    'Content-Length: 0x5', 'Content-Length: 5 5',
  ];
  for (const framing of framings) {
    const { statuses, closed } = await send(APP, `${READ}${framing}\r\n\r\n0\r\n\r\n${inner}`);
    assert.deepEqual([...new Set(statuses)], [400], framing);
    assert.ok(closed);
  }
  assert.equal(imds.requests.entries.length, 0);
});

test('a folded header line, and one of odd spelling, hides nothing from upstream', async () => {
  imds.requests.clear();
  const lines = [
    'User-Agent: a\r\n X-Evil: b', 'User-Agent: a\r\n\tX-Evil: b', 'User-Agent : a', ' User-Agent: a',
    'User-Agent: a\rX-Evil: b', 'User-Agent: a\nX-Evil: b', 'User-Agent: a\0X-Evil: b', 'User\0-Agent: a',
    ': a', 'no-colon',
  ];
  for (const line of lines) {
    const { statuses } = await send(APP, `${READ}${line}\r\nConnection: close\r\n\r\n`);
    assert.equal(statuses.length, 1, `${JSON.stringify(line)}: ${statuses}`);
    assert.ok([200, 400].includes(statuses[0] ?? 0), `${JSON.stringify(line)}: ${statuses}`);
  }
  for (const { rawHeaders } of imds.requests.entries) {
    const names = rawHeaders.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
    assert.ok(!names.includes('x-evil'), String(rawHeaders));
  }
});

test('a request whose lines end in a bare LF is never read as more than one', async () => {
  imds.requests.clear();
  const requests = [
    `GET ${INSTANCE_ID_PATH} HTTP/1.1\nHost: x\nConnection: close\n\n`,
    `${READ}X: y\nConnection: close\r\n\r\n`,
    `${READ}Connection: close\r\n\n`,
  ];
  for (const bytes of requests) {
    const { statuses } = await send(APP, `${bytes}\r\n\r\n`);
    assert.ok(['200', '400'].includes(statuses.join()), `${JSON.stringify(bytes)}: ${statuses}`);
  }
});

test('a request without a Host header, or with two, is served for its own caller alone', async () => {
  const lines = ['', 'Host: a\r\nHost: b\r\n', 'Host: 169.254.169.254@evil\r\n', 'Host: /latest/meta-data/iam/\r\n'];
  for (const host of lines) {
    const bytes = `GET ${INSTANCE_ID_PATH} HTTP/1.1\r\n${host}Connection: close\r\n\r\n`;
    const { statuses } = await send(APP, bytes);
    assert.ok(['200', '400'].includes(statuses.join()), `${JSON.stringify(host)}: ${statuses}`);
  }
});

test('a head of more than 8 kB is 431, and the connection is closed', async () => {
  const heads = [
    `${READ}X-Long: ${'a'.repeat(9_000)}\r\n\r\n`,
    `${READ}${Array.from({ length: 1_000 }, (_, number) => `X-${number}: 12345678\r\n`).join('')}\r\n`,
  ];
  for (const bytes of heads) {
    const { statuses, closed, responses } = await send(APP, bytes);
    assert.deepEqual(statuses, [431]);
    assert.ok(responses[0]?.rawHeaders.includes('EC2ws'));
    assert.ok(closed);
  }
});

test('a head of less than 8 kB is accepted', async () => {
  const answer = await ask(APP, SECURITY_CREDENTIALS, { 'x-long': 'a'.repeat(7_000) });
  assert.equal(answer.status, 200);
});

test('a target as long as the head may be is refused', async () => {
  const { statuses } = await send(APP, requestFor(`/${'a/'.repeat(3_500)}`));
  assert.deepEqual(statuses, [400]);
  const { statuses: tooLong } = await send(APP, requestFor(`/${'a/'.repeat(4_500)}`));
  assert.deepEqual(tooLong, [431]);
});

test('a NUL anywhere in the head is 400', async () => {
  const requests = [
    requestFor('/latest/meta-data/\0iam/'), requestFor(`${INSTANCE_ID_PATH}\0`),
    `${READ}X: a\0b\r\n\r\n`, `${READ}X\0: a\r\n\r\n`, `G\0T / HTTP/1.1\r\nHost: x\r\n\r\n`, '\0\0\0\0',
  ];
  for (const bytes of requests) {
    const { statuses } = await send(APP, bytes);
    assert.deepEqual(statuses, [400], JSON.stringify(bytes));
  }
});

test('bytes that are not HTTP are 400 with an error page of IMDS, and the connection is closed', async () => {
  const clientHello = '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03';
  for (const bytes of ['hello\r\n\r\n', clientHello, 'GET\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n']) {
    const { statuses, text, closed } = await send(APP, bytes);
    assert.deepEqual(statuses, [400], JSON.stringify(bytes));
    assert.match(text, /Server: EC2ws\r\n/);
    assert.match(text, /<title>400 - Bad Request<\/title>/);
    assert.ok(closed);
  }
});

test('no header changes the caller', async () => {
  const claims = {
    'X-Forwarded-For': APP, 'X-Real-IP': APP, 'Forwarded': `for=${APP}`, 'True-Client-IP': APP, 'X-Client-IP': APP,
    'X-Original-Url': `${SECURITY_CREDENTIALS}app-role`, 'X-Rewrite-Url': SECURITY_CREDENTIALS, Host: APP,
  };
  assert.equal((await ask(UNKNOWN, SECURITY_CREDENTIALS, claims)).status, 404);
  assert.equal((await ask(UNKNOWN, INSTANCE_ID_PATH, claims)).body, INSTANCE_ID);
});

test('no header changes the path or method of a request', async () => {
  const headers = { 'X-HTTP-Method-Override': 'PUT', 'X-HTTP-Method': 'PUT', [TTL]: '60' };
  assert.equal((await ask(APP, '/latest/api/token', headers)).status, 405);
  assert.equal((await ask(APP, INSTANCE_ID_PATH, headers)).body, INSTANCE_ID);
});

test('a refused request has one answer, whatever follows on its connection', async () => {
  const bytes = `${READ}Transfer-Encoding: chunked\r\n\r\nno chunk at all\r\n\r\n`;
  assert.deepEqual((await send(APP, bytes)).statuses, [400]);
});

test('bytes that are no request break off an answer in flight, but write nothing into it', async (t) => {
  const pause = imds.fault('/latest/user-data', { kind: 'pause-in-body' }, 1);
  t.after(() => pause.lift());
  const socket = connect({ port, host: '127.0.0.1', localAddress: APP });
  let received = '';
  socket.setEncoding('latin1').on('error', () => {});
  socket.write('GET /latest/user-data HTTP/1.1\r\nHost: x\r\n\r\n');
  socket.on('data', (text: string) => {
    // When the first half of the body is there.
    if (received === '' && text.includes('#!')) socket.write('this is no request\r\n\r\n');
    received += text;
  });
  await once(socket, 'close');
  const body = received.slice(received.indexOf('\r\n\r\n') + 4);
  assert.ok(imds.userData.toString().startsWith(body), `the body was ${JSON.stringify(body)}`);
});

test('after all that, the proxy still serves', async () => {
  const answer = await ask(APP, `${SECURITY_CREDENTIALS}app-role`);
  assert.equal(sts.issuedAs(accessKeyIn(answer)).call.roleArn, ARN);
  assert.equal(sts.assumed().length, 1);
  assert.deepEqual(proxy.logs.all(({ level }) => level === 'error'), []);
});
