import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { connect } from 'node:net';
import { after, describe, test } from 'node:test';
import { headerOf } from '../support/http-bytes.ts';
import { INSTANCE_ID, userDataOf, type ImdsFault, type ImdsRequest } from '../support/imds.ts';
import { raw, request, startProxy } from '../support/proxy.ts';
import { host, INSTANCE_ID_PATH, TOKEN } from './host.ts';

const { imds, proxy, ask } = await host({ after });
const FROM = '127.0.0.11';
const USER_DATA = '/latest/user-data';
const isRead = ({ method }: ImdsRequest): boolean => method !== 'PUT';

/** Asks under a fault, which is over afterwards. */
async function under<T>(fault: ImdsFault, task: () => Promise<T>, path = USER_DATA): Promise<T> {
  const struck = imds.fault(path, fault);
  try {
    return await task();
  } finally {
    struck.lift();
  }
}

/** The request that the metadata service gets for one of a container. */
async function upstreamOf(headers: Record<string, string | string[]>, path = INSTANCE_ID_PATH, method = 'GET') {
  const came = imds.requests.next(isRead);
  await ask(FROM, path, headers, method);
  return await came;
}

// Bodies

test('10 MB are passed through byte for byte, with a Content-Length and in chunks', async (t) => {
  const before = imds.userData;
  t.after(() => void (imds.userData = before));
  imds.userData = userDataOf(10 * 1024 * 1024);
  const whole = await ask(FROM, USER_DATA);
  assert.ok(whole.bytes.equals(imds.userData));
  assert.equal(whole.headers['content-length'], String(imds.userData.length));
  const chunked = await under({ kind: 'chunked' }, () => ask(FROM, USER_DATA));
  assert.ok(chunked.bytes.equals(imds.userData));
});

test('a body is streamed, not buffered', async () => {
  const pause = imds.fault(USER_DATA, { kind: 'pause-in-body' }, 1);
  const socket = connect({ port: proxy.port, host: '127.0.0.1', localAddress: FROM });
  socket.write(`GET ${USER_DATA} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  let text = '';
  for await (const chunk of socket.setEncoding('latin1') as AsyncIterable<string>) {
    text += chunk;
    // The second half is not sent before the first one is here.
    if (text.includes('#!/bin/sh')) pause.lift();
  }
  assert.ok(text.endsWith(imds.userData.toString()));
});

test('a client that reads slowly causes backpressure upstream: nothing is buffered', async (t) => {
  let sent = 0;
  const upstream = createServer((socket: Socket) => {
    socket.on('error', () => {});
    socket.on('data', (head: Buffer) => {
      if (head.toString().startsWith('PUT')) return void socket.end('HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n');
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
      const piece = `10000\r\n${'x'.repeat(65_536)}\r\n`;
      const pour = (): void => {
        do sent += piece.length; while (socket.write(piece) && sent < LIMIT);
        if (sent < LIMIT) socket.once('drain', pour);
      };
      pour();
    });
  });
  const LIMIT = 256 * 1024 * 1024;
  upstream.listen(0, '127.0.0.1');
  await once(upstream, 'listening');
  t.after(() => void upstream.close());
  const { port } = upstream.address() as AddressInfo;
  const own = await startProxy(t, { env: { METADATA_URL: `http://127.0.0.1:${port}` } });
  const client = connect({ port: own.port, host: '127.0.0.1' });
  t.after(() => void client.destroy());
  client.pause();
  client.write(`GET ${USER_DATA} HTTP/1.1\r\nHost: x\r\n\r\n`);
  // Until it stalls; without back-pressure it never does before the limit.
  for (let before = -1; sent !== before || sent === 0;) {
    before = sent;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.ok(sent < LIMIT / 4, `${sent} bytes were taken for a client that reads none`);
});

test('when a client disconnects while it waits, the upstream request ends', async () => {
  const hold = imds.fault(INSTANCE_ID_PATH, { kind: 'hold' }, 1);
  const came = imds.requests.next(isRead);
  const gone = new AbortController();
  const asked = request({ port: proxy.port, from: FROM, path: INSTANCE_ID_PATH, signal: gone.signal });
  const upstream = await came;
  gone.abort();
  await assert.rejects(asked);
  await upstream.closed;
  hold.lift();
});

test('a client that disconnects is not logged as an error', async () => {
  const hold = imds.fault(INSTANCE_ID_PATH, { kind: 'hold' }, 1);
  const came = imds.requests.next(isRead);
  const gone = new AbortController();
  const asked = request({ port: proxy.port, from: FROM, path: INSTANCE_ID_PATH, signal: gone.signal });
  const upstream = await came;
  gone.abort();
  await assert.rejects(asked);
  await upstream.closed;
  hold.lift();
  await ask(FROM, '/latest/meta-data/mac');
  assert.deepEqual(proxy.logs.all(({ level }) => level === 'error').map(({ text }) => text), []);
});

test('when a client disconnects in the middle of a body, the upstream request ends', async () => {
  for (const framing of ['chunked', 'close'] as const) {
    await under({ kind: 'endless', framing }, async () => {
      const came = imds.requests.next(isRead);
      const socket = connect({ port: proxy.port, host: '127.0.0.1', localAddress: FROM });
      socket.write(`GET ${USER_DATA} HTTP/1.1\r\nHost: x\r\n\r\n`);
      await once(socket, 'data');
      const upstream = await came;
      socket.destroy();
      await upstream.closed;
    });
  }
});

for (const kind of ['reset-in-body', 'close-in-body'] as const) {
  test(`when upstream breaks off (${kind}), the client's connection breaks off as well`, async () => {
    await under({ kind }, async () => {
      await assert.rejects(ask(FROM, USER_DATA), /aborted|ECONNRESET|socket hang up/);
    });
  });
}

test('a body shorter than its Content-Length breaks the client\'s connection', async () => {
  await under({ kind: 'content-length', value: imds.userData.length + 5 }, async () => {
    await assert.rejects(ask(FROM, USER_DATA), /aborted|ECONNRESET|socket hang up/);
  });
});

test('a body longer than its Content-Length is cut there, and corrupts no later answer', async () => {
  await under({ kind: 'content-length', value: 5 }, async () => {
    assert.equal((await ask(FROM, USER_DATA)).body, imds.userData.toString().slice(0, 5));
  });
  assert.equal((await ask(FROM, INSTANCE_ID_PATH)).body, INSTANCE_ID);
});

test('a body without Content-Length or chunks ends where upstream closes', async () => {
  const bytes = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end';
  assert.equal((await under({ kind: 'raw', bytes }, () => ask(FROM, USER_DATA))).body, 'until the end');
});

test('an answer without a body has none', async () => {
  for (const status of [204, 304]) {
    const bytes = `HTTP/1.1 ${status} Nothing\r\nETag: "x"\r\n\r\n`;
    const answer = await under({ kind: 'raw', bytes }, () => ask(FROM, USER_DATA));
    assert.deepEqual([answer.status, answer.body, answer.headers['etag']], [status, '', '"x"']);
  }
});

// Heads

test('status and body of upstream errors are passed through', async () => {
  for (const status of [400, 403, 404, 405, 429, 500, 503]) {
    const fault = { kind: 'status', status, body: `a body with ${status}` } as const;
    const answer = await under(fault, () => ask(FROM, USER_DATA));
    assert.deepEqual([answer.status, answer.body], [status, `a body with ${status}`]);
  }
});

test('a redirect is returned, not followed', async () => {
  const location = 'http://169.254.169.254/latest/meta-data/iam/security-credentials/';
  const before = imds.requests.all(isRead).length;
  const answer = await under({ kind: 'redirect', location }, () => ask(FROM, USER_DATA));
  assert.equal(answer.status, 302);
  assert.equal(answer.headers['location'], location);
  assert.equal(imds.requests.all(isRead).length, before + 1);
});

test('upstream headers are returned, also repeated ones', async () => {
  const headers = [
    ['Set-Cookie', 'a=1'], ['X-Twice', 'one'], ['Set-Cookie', 'b=2'], ['X-Twice', 'two'], ['ETag', '"5"'],
    ['Cache-Control', 'no-store'], ['X-Odd-Case', 'kept'], ['Content-Language', 'en'], ['Vary', 'Accept'],
  ] as const;
  const answer = await under({ kind: 'headers', headers }, () => ask(FROM, USER_DATA));
  const pairs = answer.rawHeaders.flatMap((name, index, all) => (index % 2 === 0 ? [[name, all[index + 1]]] : []));
  for (const pair of headers) {
    assert.equal(pairs.filter(([name, value]) => name === pair[0] && value === pair[1]).length, 1, String(pair));
  }
  const names = pairs.map(([name = '']) => name.toLowerCase());
  for (const once of ['server', 'date', 'content-type', 'content-length', 'last-modified', 'accept-ranges']) {
    assert.equal(names.filter((name) => name === once).length, 1, once);
  }
  assert.equal(answer.headers['server'], 'EC2ws');
});

test('hop-by-hop headers of an answer are not returned', async () => {
  const headers = [
    ['Connection', 'X-Named, x-also-named'], ['X-Named', '1'], ['X-Also-Named', '2'], ['Keep-Alive', 'timeout=77'],
    ['Proxy-Authenticate', 'Basic'], ['Proxy-Authorization', 'x'], ['Trailer', 'X-T'], ['Upgrade', 'h2c'], ['TE', 'x'],
    ['Proxy-Connection', 'keep-alive'],
  ] as const;
  const answer = await under({ kind: 'headers', headers }, () => ask(FROM, USER_DATA));
  assert.equal(answer.status, 200);
  const behind = ['x-named', 'x-also-named', 'proxy-authenticate', 'proxy-authorization', 'trailer', 'upgrade', 'te'];
  for (const name of behind) {
    assert.equal(answer.headers[name], undefined, name);
  }
  assert.doesNotMatch(answer.headers['keep-alive'] ?? '', /77/);
  assert.doesNotMatch(answer.headers['connection'] ?? '', /named/i);
});

test('only request headers that can change an answer go upstream', async () => {
  const { rawHeaders } = await upstreamOf({
    'Accept': 'text/plain', 'Accept-Encoding': 'gzip', 'If-None-Match': '"x"', 'Range': 'bytes=0-3',
    'User-Agent': 'sdk/1',
    'Connection': 'X-Hop', 'X-Hop': '1', 'Keep-Alive': '5', 'TE': 'trailers', 'Proxy-Authorization': 'x',
    'Proxy-Connection': 'x', 'Authorization': 'x', 'Cookie': 'x', 'X-Custom': 'x', 'Via': 'x', 'Forwarded': 'for=x',
    'X-Forwarded-For': '10.0.0.1', 'X-Forwarded-Host': 'x', 'Max-Forwards': '0', 'Origin': 'x', 'Referer': 'x',
    'X-aws-ec2-metadata-token-ttl-seconds': '60',
  });
  const names = rawHeaders.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
  assert.deepEqual([...names].sort(), [
    'accept', 'accept-encoding', 'connection', 'host', 'if-none-match', 'range', 'user-agent', TOKEN,
  ]);
  assert.equal(headerOf(rawHeaders, 'user-agent'), 'sdk/1');
  assert.equal(headerOf(rawHeaders, 'connection'), 'keep-alive');
  assert.equal(headerOf(rawHeaders, 'host'), `127.0.0.1:${imds.port}`);
});

test('no X-Forwarded-For is added: IMDS would refuse the request', async () => {
  const { rawHeaders } = await upstreamOf({});
  for (const name of ['x-forwarded-for', 'forwarded', 'via', 'x-real-ip']) {
    assert.equal(headerOf(rawHeaders, name), undefined);
  }
});

test('a HEAD is a HEAD upstream', async () => {
  const { method, target } = await upstreamOf({}, USER_DATA, 'HEAD');
  assert.deepEqual([method, target], ['HEAD', USER_DATA]);
  const answer = await ask(FROM, USER_DATA, {}, 'HEAD');
  assert.equal(answer.headers['content-length'], String(imds.userData.length));
  assert.equal(answer.body, '');
});

test('the judged path is the sent path: canonical, without its query', async () => {
  const targets = {
    '/latest/meta-data/instance-id?x=1': '/latest/meta-data/instance-id',
    '/latest/meta-data/instance-id??/../iam/': '/latest/meta-data/instance-id',
    '//latest///meta-data//instance-id': '/latest/meta-data/instance-id',
    '/latest/./meta-data/x/../instance-id': '/latest/meta-data/instance-id',
    '/latest/meta%2ddata/%69nstance-id': '/latest/meta-data/instance-id',
    '/latest%2fmeta-data%2finstance-id': '/latest/meta-data/instance-id',
    '/../../latest/meta-data/': '/latest/meta-data/',
    '/latest/meta-data/tags/instance/Name': '/latest/meta-data/tags/instance/Name',
    '/latest/meta-data/tags/instance/iam-team': '/latest/meta-data/tags/instance/iam-team',
    '/latest/meta-data/network/interfaces/macs/0e%3a01/': '/latest/meta-data/network/interfaces/macs/0e:01/',
  };
  for (const [given, sent] of Object.entries(targets)) {
    const came = imds.requests.next(isRead);
    await raw({ port: proxy.port, from: FROM, bytes: `GET ${given} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n` });
    assert.equal((await came).target, sent, given);
  }
});

// Connections

test('the upstream connection is reused', async () => {
  const first = await upstreamOf({});
  for (let times = 0; times < 3; times += 1) assert.equal((await upstreamOf({})).connection, first.connection);
});

test('a kept connection that upstream has closed meanwhile is no failure', async (t) => {
  const own = await host(t);
  for (let times = 0; times < 3; times += 1) {
    assert.equal((await own.ask(FROM, INSTANCE_ID_PATH)).body, INSTANCE_ID);
    await own.imds.stop();
    await own.imds.listen();
  }
});

test('an unreachable upstream IMDS is 502', async (t) => {
  const own = await host(t);
  await own.imds.stop();
  const answer = await own.ask(FROM, INSTANCE_ID_PATH);
  assert.equal(answer.status, 502);
  assert.equal(answer.headers['content-type'], 'text/html');
  assert.equal(answer.headers['server'], 'EC2ws');
  await own.imds.listen();
  assert.equal((await own.ask(FROM, INSTANCE_ID_PATH)).body, INSTANCE_ID);
});

const NO_ANSWERS = [
  { what: 'resets the connection', fault: { kind: 'reset' } },
  { what: 'closes without a word', fault: { kind: 'raw', bytes: '' } },
  { what: 'answers what is no HTTP', fault: { kind: 'raw', bytes: 'this is no HTTP\r\n\r\n' } },
  { what: 'answers half a head', fault: { kind: 'raw', bytes: 'HTTP/1.1 200 OK\r\nContent-' } },
  { what: 'gives a Content-Length that is none', fault: { kind: 'content-length', value: 'many' } },
  { what: 'answers with a NUL in a header', fault: { kind: 'raw', bytes: 'HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n' } },
  {
    what: 'switches protocols',
    fault: { kind: 'raw', bytes: 'HTTP/1.1 101 No\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n' },
  },
] as const;
for (const { what, fault } of NO_ANSWERS) {
  test(`an upstream IMDS that ${what} is 502`, async () => {
    const answer = await under(fault, () => ask(FROM, USER_DATA));
    assert.equal(answer.status, 502);
    assert.equal(answer.headers['server'], 'EC2ws');
  });
}

test('an interim answer is no answer', async () => {
  const interim = 'HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n';
  const bytes = `${interim}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`;
  const answer = await under({ kind: 'raw', bytes }, () => ask(FROM, USER_DATA));
  assert.deepEqual([answer.status, answer.body], [200, 'ok']);
});

describe('a slow upstream IMDS', { concurrency: true }, () => {
  test('is 504 when its head does not arrive', async () => {
    const hold = imds.fault('/latest/meta-data/mac', { kind: 'hold' });
    const came = imds.requests.next(({ target }) => target === '/latest/meta-data/mac');
    const answer = await ask(FROM, '/latest/meta-data/mac');
    assert.equal(answer.status, 504);
    await (await came).closed;
    hold.lift();
  });

  test('is waited for until the timeout', async () => {
    const delay = imds.fault('/latest/meta-data/hostname', { kind: 'delay', ms: 1_500 });
    const answer = await ask(FROM, '/latest/meta-data/hostname');
    delay.lift();
    assert.equal(answer.status, 200);
  });

  test('does not delay other answers', async () => {
    const hold = imds.fault('/latest/meta-data/ami-id', { kind: 'hold' });
    const slow = ask(FROM, '/latest/meta-data/ami-id');
    const others = Array.from({ length: 20 }, () => ask('127.0.0.12', INSTANCE_ID_PATH));
    for (const answer of await Promise.all(others)) assert.equal(answer.body, INSTANCE_ID);
    hold.lift();
    assert.equal((await slow).status, 200);
  });
});
