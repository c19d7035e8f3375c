import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { UnknownCaller } from '../../lib/caller.ts';
import type { Container } from '../../lib/docker/container.ts';
import { CredentialsUnavailable } from '../../lib/credentials/credentials.ts';
import type { Exchange } from '../../lib/http/exchange.ts';
import { raw, request } from '../support/client.ts';
import { Journal } from '../support/journal.ts';
import { aContainer, someCredentials } from './helpers/fixtures.ts';
import { startServer } from './helpers/metadata-server.ts';

const TOKEN = 'x-aws-ec2-metadata-token';
const TTL = 'x-aws-ec2-metadata-token-ttl-seconds';
const TOKEN_PATH = '/latest/api/token';
const ID_PATH = '/latest/meta-data/instance-id';

function container(id: string): Container {
  return aContainer({ id, name: `name-of-${id}` });
}

test('each route calls its handler', async (t) => {
  const { port } = await startServer(t);
  const security = '/latest/meta-data/iam/security-credentials';
  for (const [path, body] of [
    [ID_PATH, `passed ${ID_PATH}`],
    ['//latest//x/../user-data?q', 'passed /latest/user-data'],
    ['/latest/meta-data/iam/', 'listing /latest/meta-data/iam/'],
    ['/latest/meta-data/iam/info', 'info /latest/meta-data/iam/info'],
    [security, `role name ${security}`],
    [`${security}/app/x`, 'app false'],
    [`${security}-extended/app`, 'app true'],
    ['/v2/credentials/x', 'container credentials /v2/credentials/x'],
  ] as const) {
    const answer = await request({ port, path });
    assert.deepEqual([answer.status, answer.body, answer.headers['server']], [200, body, 'EC2ws']);
    const head = await request({ port, path, method: 'HEAD' });
    assert.deepEqual([head.status, head.body, head.headers['content-length']], [200, '', `${body.length}`]);
  }
});

test('the first step of the pipeline that fails answers the request', async (t) => {
  const { port } = await startServer(t);
  const bad = '/latest;x';
  const host = '/latest/meta-data/identity-credentials/ec2/info';
  for (const [method, path, headers, status] of [
    ['POST', bad, '', 400],
    ['POST', host, '', 404],
    ['GET', host, 'X-aws-ec2-metadata-token: bad', 404],
    ['POST', ID_PATH, 'Content-Length: 5', 405],
    ['GET', ID_PATH, 'Content-Length: 5', 413],
    ['GET', ID_PATH, 'Transfer-Encoding: chunked', 400],
    ['GET', ID_PATH, 'X-aws-ec2-metadata-token: bad', 401],
    ['PUT', TOKEN_PATH, '', 400],
    ['PUT', TOKEN_PATH, 'X-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 1', 413],
    ['PUT', TOKEN_PATH, 'X-aws-ec2-metadata-token-ttl-seconds: 60\r\nX-Forwarded-For: 1.2.3.4', 403],
    ['PUT', TOKEN_PATH, 'X-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0', 200],
    ['GET', TOKEN_PATH, '', 405],
    ['PUT', ID_PATH, '', 405],
    ['DELETE', '/v2/credentials', '', 405],
    ['GET', `http://169.254.169.254${ID_PATH}`, '', 400],
    ['OPTIONS', '*', '', 400],
  ] as const) {
    const bytes = `${method} ${path} HTTP/1.1\r\nHost: x\r\n${headers === '' ? '' : `${headers}\r\n`}\r\n`;
    const { responses } = await raw({ port, bytes });
    assert.equal(responses[0]?.status, status, bytes);
    if (status === 405)
      assert.ok(responses[0]?.rawHeaders.includes(path === TOKEN_PATH ? 'PUT' : 'GET, HEAD'), bytes);
  }
});

test("a token's TTL is a whole number of seconds from 1 to 21600", async (t) => {
  const { port } = await startServer(t);
  const status = async (ttl: string | string[]): Promise<number> =>
    (await request({ port, method: 'PUT', path: TOKEN_PATH, headers: { [TTL]: ttl } })).status;
  for (const ttl of ['1', '21600', '00060']) assert.equal(await status(ttl), 200, ttl);
  for (const ttl of ['', '0', '21601', '-1', '1.5', '1e3', '0x10', 'x', '99999999999', ['60', '60']])
    assert.equal(await status(ttl), 400, String(ttl));
});

test('a session token is valid for the container that requested it alone, at all its addresses', async (t) => {
  const { port, containers, time } = await startServer(t);
  containers
    .set('127.0.0.2', container('a'))
    .set('127.0.0.3', container('a'))
    .set('127.0.0.4', container('b'));
  const { body: token, headers } = await request({
    port,
    from: '127.0.0.2',
    method: 'PUT',
    path: TOKEN_PATH,
    headers: { [TTL]: '60' },
  });
  assert.equal(headers[TTL], '60');
  const ask = (from: string, given = token) =>
    request({ port, from, path: ID_PATH, headers: { [TOKEN]: given } });
  const answer = await ask('127.0.0.2');
  assert.equal(answer.status, 200);
  assert.equal((await ask('127.0.0.3')).status, 200);
  for (const from of ['127.0.0.4', '127.0.0.5']) assert.equal((await ask(from)).status, 401, from);
  for (const bad of ['', 'x', `${token}x`]) assert.equal((await ask('127.0.0.2', bad)).status, 401, bad);
  time.now += 60_000;
  assert.equal((await ask('127.0.0.2')).status, 401);
});

test('a token that was issued before its container was known stays valid', async (t) => {
  const { port, containers } = await startServer(t);
  const { body } = await request({
    port,
    from: '127.0.0.2',
    method: 'PUT',
    path: TOKEN_PATH,
    headers: { [TTL]: '60' },
  });
  containers.set('127.0.0.2', container('a'));
  assert.equal(
    (await request({ port, from: '127.0.0.2', path: ID_PATH, headers: { [TOKEN]: body } })).status,
    200,
  );
});

test('where IMDSv2 is required, reads without a token are refused, and nothing else is', async (t) => {
  const { port } = await startServer(t, {}, { tokenRequired: true });
  for (const path of [ID_PATH, '/latest/meta-data/iam/', '/v2/credentials'])
    assert.equal((await request({ port, path })).status, 401, path);
  const { status, body } = await request({ port, method: 'PUT', path: TOKEN_PATH, headers: { [TTL]: '60' } });
  assert.equal(status, 200);
  const answer = await request({ port, path: ID_PATH, headers: { [TOKEN]: body } });
  assert.deepEqual([answer.status, answer.headers[TTL]], [200, '60']);
});

test('an error that a handler throws is answered by its row of the table, a retryable one as JSON', async (t) => {
  const { port } = await startServer(t, {
    iamListing: async () => Promise.reject(new UnknownCaller('secret')),
    iamInfo: () => {
      throw Object.assign(new CredentialsUnavailable('secret'), { retryAfter: 2500 });
    },
  });
  const unknown = await request({ port, path: '/latest/meta-data/iam/' });
  assert.deepEqual([unknown.status, unknown.headers['content-type']], [404, 'text/html']);
  const trouble = await request({ port, path: '/latest/meta-data/iam/info' });
  assert.deepEqual(
    [trouble.status, trouble.headers['retry-after'], trouble.headers['content-type']],
    [503, '3', 'application/json'],
  );
  assert.deepEqual(Object.keys(JSON.parse(trouble.body) as object), ['Code', 'Message']);
  assert.doesNotMatch(unknown.body + trouble.body, /secret/);
});

test('an unhandled error is logged, that request is answered 500, and the next one is served', async (t) => {
  const { port, lines } = await startServer(t, { iamListing: () => assert.fail('a bug') });
  assert.equal((await request({ port, path: '/latest/meta-data/iam/' })).status, 500);
  assert.match(String((await lines.first(({ level }) => level === 'error'))['error']), /a bug/);
  assert.equal((await request({ port, path: ID_PATH })).status, 200);
});

test('one address has a limited number of connections', async (t) => {
  const { port } = await startServer(t, { passThrough: () => {} }, { maxConnectionsPerAddress: 2 });
  const hold = new AbortController();
  const held = [1, 2].map(() => request({ port, path: ID_PATH, signal: hold.signal }).catch(() => {}));
  // Connections are made in order: this one comes third.
  const { responses } = await raw({ port, bytes: `GET ${ID_PATH} HTTP/1.1\r\nHost: x\r\n\r\n` });
  assert.equal(responses[0]?.status, 503);
  assert.ok(responses[0]?.rawHeaders.includes('Retry-After'));
  assert.equal(
    (await request({ port, from: '127.0.0.9', path: TOKEN_PATH })).status,
    405,
    'others are served',
  );
  hold.abort();
  await Promise.all(held);
});

test('bytes that are no request are refused', async (t) => {
  const { port } = await startServer(t);
  for (const [bytes, status] of [
    ['nonsense\r\n\r\n', 400],
    [`GET ${ID_PATH} HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(9000)}\r\n\r\n`, 431],
    ['CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n', 405],
    [
      `GET ${ID_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      400,
    ],
  ] as const) {
    const { responses } = await raw({ port, bytes, responses: Infinity });
    assert.deepEqual(
      responses.map((response) => response.status),
      [status],
      bytes.slice(0, 40),
    );
  }
});

test('bytes after a refused body are not served as a request', async (t) => {
  const { port } = await startServer(t);
  const smuggled = `GET ${ID_PATH} HTTP/1.1\r\nHost: x\r\n\r\n`;
  for (const head of [
    `Content-Length: ${smuggled.length}`,
    'Transfer-Encoding: chunked',
    'Content-Length: 1',
  ]) {
    const { responses } = await raw({
      port,
      bytes: `GET ${ID_PATH} HTTP/1.1\r\nHost: x\r\n${head}\r\n\r\n${smuggled}`,
      responses: Infinity,
    });
    assert.deepEqual(
      responses.filter(({ status }) => status === 200),
      [],
      head,
    );
    assert.ok([400, 413].includes(responses[0]?.status ?? 0));
  }
});

test('each credential answer is logged with its container, its status and its duration', async (t) => {
  const { port, lines } = await startServer(t, {
    containerCredentials: (exchange) => {
      exchange.caller = container('0123456789abcdef');
      exchange.credentials = someCredentials({ roleArn: 'arn:aws:iam::123456789012:role/app' });
      exchange.response.end();
    },
  });
  await request({ port, path: '/v2/credentials' });
  const line = await lines.first(({ msg }) => msg === 'credentials served');
  assert.deepEqual(
    [
      line.level,
      line['container'],
      line['container_id'],
      line['role_arn'],
      line['status'],
      line['address'],
      typeof line['ms'],
    ],
    [
      'info',
      'name-of-0123456789abcdef',
      '0123456789ab',
      'arn:aws:iam::123456789012:role/app',
      200,
      '127.0.0.1',
      'number',
    ],
  );
});

test('close() waits for the requests in flight', async (t) => {
  let finish = (): void => {};
  const begun = new Promise<void>((resolve) => {
    finish = resolve;
  });
  let release = (): void => {};
  const { server, port } = await startServer(t, {
    passThrough: async ({ response }) => {
      finish();
      await new Promise<void>((resolve) => (release = resolve));
      response.end('finished');
    },
  });
  const answer = request({ port, path: ID_PATH });
  await begun;
  const closed = server.close();
  await assert.rejects(request({ port, path: ID_PATH }), /ECONNREFUSED/);
  release();
  assert.equal((await answer).body, 'finished');
  await closed;
});

test('a token request, one with a token and one that is passed through wait until their caller is resolved, others do not', async (t) => {
  const known = new Map<unknown, Container>();
  let next = 'one';
  const { port } = await startServer(t, {}, {
    resolver: {
      peek: (connection) => known.get(connection),
      ensureResolved: async (connection) => {
        await new Promise((resolve) => setImmediate(resolve));
        known.set(connection, container(next));
      },
    },
  });
  const get = async (token?: string, path = ID_PATH): Promise<number> => {
    return (await request({ port, path, headers: token === undefined ? {} : { [TOKEN]: token } })).status;
  };
  for (const path of ['/healthcheck', '/metrics', '/creds']) assert.equal(await get(undefined, path), 200);
  assert.equal(known.size, 0);
  assert.equal(await get(), 200);
  assert.equal(known.size, 1);
  const { body: token } = await request({ port, method: 'PUT', path: TOKEN_PATH, headers: { [TTL]: '60' } });
  assert.equal(known.size, 2);
  assert.equal(await get(token), 200, 'on another connection of the same container');
  next = 'other';
  assert.equal(await get(token), 401, 'on one of another container, from the same address');
});

test('every request has the caller that is known, whatever its route', async (t) => {
  const answered = new Journal<[path: string, caller: string | undefined]>('an answer');
  const requestAnswered = ({ path, caller }: Exchange): void => answered.add([path, caller?.id]);
  const { port, containers } = await startServer(t, {}, { events: { requestAnswered } });
  containers.set('127.0.0.2', container('a'));
  await request({ port, from: '127.0.0.2', path: ID_PATH });
  await request({ port, from: '127.0.0.2', path: TOKEN_PATH, method: 'PUT', headers: { [TTL]: '60' } });
  await request({ port, from: '127.0.0.2', path: '/latest/meta-data/iam/unknown' });
  await request({ port, from: '127.0.0.2', path: '/a%zz' });
  await request({ port, from: '127.0.0.3', path: ID_PATH });
  assert.deepEqual(answered.entries, [
    [ID_PATH, 'a'],
    [TOKEN_PATH, 'a'],
    ['/latest/meta-data/iam/unknown', 'a'],
    ['', 'a'],
    [ID_PATH, undefined],
  ]);
});

test('a client that disconnects ends all its requests, also those that are pipelined behind others', async (t) => {
  const asked = new Journal<string>('a request');
  const passThrough = ({ path, response }: Exchange): Promise<void> => {
    asked.add(path);
    return new Promise((resolve) => response.once('close', () => resolve()));
  };
  const answered = new Journal<string>('an answer that was abandoned');
  const { port } = await startServer(t, { passThrough }, { events: { requestAnswered: ({ path }) => answered.add(path) } });
  const client = connect(port, '127.0.0.1').on('error', () => {});
  client.write('GET /latest/a HTTP/1.1\r\nHost: x\r\n\r\nGET /latest/b HTTP/1.1\r\nHost: x\r\n\r\n');
  await asked.several(2);
  client.destroy();
  assert.deepEqual((await answered.several(2)).toSorted(), ['/latest/a', '/latest/b']);
});

/** Where timers are mocked, a journal waits without a timeout. */
const HANGS = { timeout: 20_000 };

/** A connection, the statuses that have come on it, and its end. */
function clientOf(port: number, localAddress: string) {
  const socket = connect({ port, host: '127.0.0.1', localAddress }).on('error', () => {});
  const statuses = new Journal<string>('a status');
  let text = '';
  socket.setEncoding('latin1').on('data', (part: string) => {
    text += part;
    for (const [, status = ''] of [...text.matchAll(/^HTTP\/1\.1 (\d+)/gm)].slice(statuses.entries.length)) statuses.add(status);
  });
  const ask = (requests = 1): void => void socket.write(`GET ${ID_PATH} HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(requests));
  return { socket, statuses, ask, over: once(socket, 'close') };
}

test('an address with too many unanswered requests is not read from for 2 to 4 s', HANGS, async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const asked = new Journal<Exchange>('a request');
  const answered = new Journal<number>('an answer');
  const passThrough = (exchange: Exchange): Promise<void> => {
    asked.add(exchange);
    return once(exchange.response, 'close').then(() => {});
  };
  const { port } = await startServer(t, { passThrough }, {
    maxConnectionsPerAddress: 4, events: { requestAnswered: ({ response }) => answered.add(response.statusCode) },
  });
  const [first, second, other] = [clientOf(port, '127.0.0.2'), clientOf(port, '127.0.0.2'), clientOf(port, '127.0.0.3')];
  t.after(() => [first, second, other].forEach(({ socket }) => socket.destroy()));
  // An answer shows that the connection was admitted.
  second.ask();
  (await asked.first()).response.end();
  await second.statuses.first();

  first.ask(1_000);
  const waiting = (await asked.several(5)).slice(1);
  second.ask();
  const third = clientOf(port, '127.0.0.2');
  t.after(() => third.socket.destroy());
  third.ask();
  other.ask();
  const others = (await asked.several(6)).at(-1);
  assert.equal(others?.address, '127.0.0.3', 'other addresses are read from');
  // Node resumes the socket when an answer is finished.
  waiting.forEach(({ response }) => response.end());
  await first.statuses.several(4);
  others?.response.end();
  await other.statuses.first();
  other.ask();
  await asked.several(7);
  t.mock.timers.tick(1_999);
  assert.deepEqual(asked.all(({ address }) => address === '127.0.0.2').length, 5);
  assert.deepEqual(answered.all((status) => status === 503), []);

  t.mock.timers.tick(2_001);
  await first.over;
  assert.deepEqual(first.statuses.entries, ['200', '200', '200', '200', '503']);
  const later = (await asked.several(9)).slice(7);
  assert.deepEqual(later.map(({ address }) => address), ['127.0.0.2', '127.0.0.2']);
  later.forEach(({ response }) => response.end());
  assert.deepEqual(await Promise.all([second.statuses.several(2), third.statuses.several(1)]), [['200', '200'], ['200']]);
});

test('a head that Node would refuse by itself counts as a request', async (t) => {
  const answered = new Journal<number>('an answer');
  const { port } = await startServer(t, {}, { events: { requestAnswered: ({ response }) => answered.add(response.statusCode) } });
  const many = 'a:\r\n'.repeat(100);
  for (const [head, status] of [
    ['', 400],
    ['Host: x\r\nExpect: x\r\n', 417],
    ['Host: x\r\nExpect: 100-continue\r\n', 200],
    [`Host: x\r\n${many}`, 431],
    [`${many}Host: x\r\n`, 431],
    [`Host: x\r\n${many.slice(4)}`, 200],
  ] as const) {
    const { responses } = await raw({ port, bytes: `GET ${ID_PATH} HTTP/1.1\r\n${head}\r\n`, responses: 1 });
    assert.equal(responses[0]?.status, status, head.slice(0, 40));
  }
  assert.deepEqual(answered.entries, [400, 417, 200, 431, 431, 200]);
});

test('a CONNECT whose client resets the connection causes no error', async (t) => {
  const { server, port } = await startServer(t);
  for (let times = 0; times < 20; times += 1) {
    const client = connect(port, '127.0.0.1').on('error', () => {});
    client.write('CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n', () => client.resetAndDestroy());
    await once(client, 'close');
  }
  // An error without a listener would fail this test.
  await server.close();
});

test('rate-limited requests end when their client disconnects, and count until then', async (t) => {
  const answered = new Journal<number>('an answer');
  const { port } = await startServer(t, {}, {
    maxRequestsPerSecond: 1, events: { requestAnswered: ({ response }) => answered.add(response.statusCode) },
  });
  const client = connect(port, '127.0.0.1').on('error', () => {});
  client.write(`GET ${ID_PATH} HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(3));
  await once(client, 'data');
  client.destroy();
  assert.deepEqual(await answered.several(3), [200, 429, 429]);
});
