import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { headerOf } from '../support/http-bytes.ts';
import { SOURCE_SECRET_KEY, request } from '../support/proxy.ts';
import { SECRET_MARK, TOKEN_MARK } from '../support/sts.ts';
import { host, INSTANCE_ID_PATH, SECURITY_CREDENTIALS, TOKEN, until } from './host.ts';

const FROM = '127.0.0.11';

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`on ${signal} the proxy finishes requests in flight, accepts no new ones and exits with 0`, async (t) => {
    const { imds, proxy, ask } = await host(t);
    const pause = imds.fault('/latest/user-data', { kind: 'pause-in-body' }, 1);
    const received = imds.requests.next(({ target }) => target === '/latest/user-data');
    const slow = ask(FROM, '/latest/user-data');
    await received;
    const ended = proxy.stop(signal);
    const { fields } = await proxy.awaitLog('stopping');
    assert.equal(fields['signal'], signal);
    const late = request({ port: proxy.port, path: INSTANCE_ID_PATH });
    await assert.rejects(late, /ECONNREFUSED|ECONNRESET|socket hang up/);
    pause.lift();
    assert.equal((await slow).body, imds.userData.toString());
    assert.deepEqual(await ended, { code: 0, signal: null });
  });
}

test('on SIGTERM a credentials request that waits for STS is still answered', async (t) => {
  const { docker, sts, proxy, ask } = await host(t);
  const pending = sts.fault({ kind: 'hold' });
  await docker.host.run({ address: FROM, env: { IAM_ROLE: 'app@123456789012' } });
  const socket = ask(FROM, '/creds');
  // The answer to this later request proves that the first one has arrived.
  await ask(FROM, SECURITY_CREDENTIALS);
  await sts.calls.first();
  const ended = proxy.stop();
  await proxy.awaitLog('stopping');
  pending.lift();
  assert.equal((await socket).status, 200);
  assert.equal((await ended).code, 0);
});

test('on SIGTERM idle connections do not delay the exit', async (t) => {
  const { proxy } = await host(t);
  const socket = connect({ port: proxy.port, host: '127.0.0.1' });
  socket.write(`GET ${INSTANCE_ID_PATH} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await once(socket, 'data');
  socket.resume();
  const [exit] = await Promise.all([proxy.stop(), once(socket, 'close')]);
  assert.deepEqual(exit, { code: 0, signal: null });
});

test('an answer during shutdown closes its connection', async (t) => {
  const { imds, proxy } = await host(t);
  const pending = imds.fault(INSTANCE_ID_PATH, { kind: 'hold' }, 1);
  const socket = connect({ port: proxy.port, host: '127.0.0.1' });
  const received = imds.requests.next(({ method }) => method === 'GET');
  socket.write(`GET ${INSTANCE_ID_PATH} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await received;
  const ended = proxy.stop();
  await proxy.awaitLog('stopping');
  pending.lift();
  let text = '';
  for await (const chunk of socket.setEncoding('latin1') as AsyncIterable<string>) text += chunk;
  assert.match(text, /^HTTP\/1\.1 200 /);
  assert.match(text, /^connection: close\r$/im);
  assert.equal((await ended).code, 0);
});

describe('an endless answer', { concurrency: true }, () => {
  test('is aborted, so that the proxy exits with 0', async (t) => {
    const { imds, proxy, ask } = await host(t);
    imds.fault('/latest/user-data', { kind: 'endless', framing: 'chunked' });
    const socket = connect({ port: proxy.port, host: '127.0.0.1' });
    socket.on('error', () => {});
    socket.write('GET /latest/user-data HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(socket, 'data');
    socket.resume();
    await ask(FROM, INSTANCE_ID_PATH);
    assert.deepEqual(await proxy.stop(), { code: 0, signal: null });
  });
});

test('the log is flushed before the program exits', async (t) => {
  const { proxy } = await host(t);
  await proxy.stop();
  assert.ok(proxy.logs.entries.some(({ msg }) => msg === 'stopping'));
  assert.ok(proxy.logs.entries.every(({ fields }) => 'msg' in fields));
});

test('no log line contains a secret, at any level', async (t) => {
  for (const format of ['json', 'text']) {
    const { docker, imds, sts, proxy, ask, sessionToken } = await host(t, {
      synced: false, env: { LOG_LEVEL: 'debug', LOG_FORMAT: format },
    });
    await docker.subscriptions.first();
    const externalId = 'the-external-id-of-the-container';
    const env = (name: string) => ({ IAM_ROLE: `${name}@123456789012`, IAM_EXTERNAL_ID: externalId });
    sts.externalIds.set('arn:aws:iam::123456789012:role/denied', 'another one');
    const failures = { throttle: '127.0.0.21', malformed: '127.0.0.22', 'expired-token': '127.0.0.23' } as const;
    for (const kind of ['throttle', 'malformed', 'expired-token'] as const) {
      const from = failures[kind];
      sts.fault({ kind }, `arn:aws:iam::123456789012:role/${kind}`);
      await docker.host.run({ address: from, env: env(kind) });
    }
    await docker.host.run({ name: 'app', address: FROM, env: env('app') });
    await docker.host.run({ name: 'denied', address: '127.0.0.12', env: env('denied') });
    const token = await sessionToken(FROM);
    const bad = `${token.slice(1)}x`;
    const info = '/latest/meta-data/iam/info';
    const paths = ['/creds', SECURITY_CREDENTIALS, `${SECURITY_CREDENTIALS}app`, INSTANCE_ID_PATH, info];
    const callers = [FROM, '127.0.0.12', ...Object.values(failures), '127.0.0.99'];
    await Promise.all(callers.flatMap((from) => paths.flatMap((path) => [
      ask(from, path), ask(from, path, { [TOKEN]: token }), ask(from, path, { [TOKEN]: bad }),
    ])));
    imds.revokeTokens();
    await ask(FROM, INSTANCE_ID_PATH);
    imds.fault(INSTANCE_ID_PATH, { kind: 'reset' });
    await ask(FROM, INSTANCE_ID_PATH);
    docker.dropSubscribers();
    await docker.subscriptions.several(2);
    await proxy.stop();

    const upstreamTokens = imds.requests.all().map(({ rawHeaders }) => headerOf(rawHeaders, TOKEN)).filter((value) => value);
    const secrets = [SECRET_MARK, TOKEN_MARK, SOURCE_SECRET_KEY, externalId, token, bad, ...upstreamTokens];
    assert.ok(upstreamTokens.length > 0 && sts.issued.entries.length > 0);
    const log = proxy.logs.entries.map(({ text }) => text).join('\n');
    assert.ok(log.split('\n').length > 50);
    for (const secret of secrets) assert.ok(!log.includes(String(secret)), `${secret} is in the log`);
  }
});

test('no answer of the operator\'s listener contains a secret', async (t) => {
  const { docker, askOperator, roleGiven } = await host(t);
  await docker.host.run({ address: FROM, env: { IAM_ROLE: 'app@123456789012', IAM_EXTERNAL_ID: 'the-external-id' } });
  await roleGiven(FROM);
  for (const path of ['/', '/healthz', '/readyz', '/status']) {
    const { body } = await askOperator(path);
    assert.doesNotMatch(body, new RegExp(`${SECRET_MARK}|${TOKEN_MARK}|the-external-id|${SOURCE_SECRET_KEY}`));
  }
});

test('the proxy recovers after Docker, IMDS and STS fail together', async (t) => {
  const { docker, imds, sts, proxy, ask } = await host(t);
  await docker.host.run({ address: FROM, env: { IAM_ROLE: 'app@123456789012' } });
  for (const end of [imds, sts, docker]) await end.stop();
  await Promise.all(['/creds', INSTANCE_ID_PATH, SECURITY_CREDENTIALS].flatMap((path) =>
    [FROM, '127.0.0.99'].map((from) => ask(from, path).catch(() => undefined))));
  for (const end of [imds, sts, docker]) await end.listen();
  await until(() => ask(FROM, '/creds').then(({ status }) => status), (status) => status === 200);
  assert.equal((await ask(FROM, INSTANCE_ID_PATH)).status, 200);
  assert.deepEqual(proxy.logs.all(({ msg }) => msg.includes('unexpected')), []);
  assert.equal((await proxy.stop()).code, 0);
});
