import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test, type TestContext } from 'node:test';
import { raw, request, type RequestOptions, type Response } from '../support/client.ts';
import { hostIdentityIn } from '../support/generous-path.ts';
import {
  HOST_MARK, Imds, INSTANCE_ID, userDataOf, type ImdsFault, type ImdsOptions,
} from '../support/imds.ts';

async function start(t: TestContext, options?: ImdsOptions): Promise<Imds> {
  const imds = await Imds.start(options);
  t.after(() => imds.close());
  return imds;
}

function get(imds: Imds, path: string, more: Partial<RequestOptions> = {}): Promise<Response> {
  return request({ port: imds.port, path, ...more });
}

const INSTANCE_ID_PATH = '/latest/meta-data/instance-id';
const TOKEN = 'x-aws-ec2-metadata-token';
const TTL = 'x-aws-ec2-metadata-token-ttl-seconds';

function putToken(imds: Imds, headers: Record<string, string>): Promise<Response> {
  return get(imds, '/latest/api/token', { method: 'PUT', headers });
}

test('metadata is answered like the upstream IMDS', async (t) => {
  const imds = await start(t);
  const leaf = await get(imds, INSTANCE_ID_PATH);
  assert.deepEqual([leaf.status, leaf.body], [200, INSTANCE_ID]);
  assert.deepEqual([leaf.headers['server'], leaf.headers['content-type']], ['EC2ws', 'text/plain']);
  assert.equal((await get(imds, '/latest/meta-data/placement/')).body, 'availability-zone\nregion');
  assert.equal((await get(imds, '/latest')).body, 'dynamic/\nmeta-data/\nuser-data');
  assert.match((await get(imds, '/')).body, /\nlatest$/);
  const absent = await get(imds, '/latest/meta-data/nothing');
  assert.deepEqual([absent.status, absent.headers['content-type']], [404, 'text/html']);
  const head = await get(imds, INSTANCE_ID_PATH, { method: 'HEAD' });
  assert.deepEqual([head.status, head.body], [200, '']);
  assert.equal(head.headers['content-length'], `${INSTANCE_ID.length}`);
});

test('large user data arrives complete', async (t) => {
  const imds = await start(t, { userData: userDataOf(3_000_000) });
  assert.ok((await get(imds, '/latest/user-data')).bytes.equals(userDataOf(3_000_000)));
});

test('tokens follow the rules of IMDSv2', async (t) => {
  let now = 1_000_000;
  const imds = await start(t, { v2Only: true, now: () => now });
  for (const ttl of ['0', '21601', '-1', 'x', '']) {
    assert.equal((await putToken(imds, { [TTL]: ttl })).status, 400);
  }
  assert.equal((await putToken(imds, {})).status, 400);
  assert.equal((await putToken(imds, { [TTL]: '60', 'X-Forwarded-For': '1.2.3.4' })).status, 403);
  const issued = await putToken(imds, { [TTL]: '60' });
  assert.deepEqual([issued.status, issued.headers[TTL]], [200, '60']);

  const read = (token: string): Promise<Response> =>
    get(imds, INSTANCE_ID_PATH, { headers: { [TOKEN]: token } });
  assert.equal((await get(imds, INSTANCE_ID_PATH)).status, 401);
  assert.equal((await read('made up')).status, 401);
  now += 15_000;
  const answer = await read(issued.body);
  assert.deepEqual([answer.status, answer.headers[TTL]], [200, '45']);
  now += 45_000;
  assert.equal((await read(issued.body)).status, 401);
  const { body: another } = await putToken(imds, { [TTL]: '60' });
  imds.revokeTokens();
  assert.equal((await read(another)).status, 401);
});

test('every spelling of a path to the host\'s credentials is recognised', () => {
  const targets = [
    '/latest/meta-data/iam', '/2012-01-12/meta-data/iam/security-credentials/', '//latest//meta-data//iam/',
    '/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance',
    '/latest/meta-data/./x/../iam', '/latest/meta-data/x/..;y/iam', '/LATEST/Meta-Data/IAM/info',
    '/latest/meta-data/%69am', '/latest/meta-data/%2569am', '/latest%2fmeta-data%2Fiam',
    '/latest/meta-data/x%2f%2e%2e%2fiam', '/latest/meta-data/x/%252e%252e/iam', '/latest\\meta-data\\iam',
    '/latest/meta-data%5ciam', '/latest/meta-data/iam;x=1/info', '/latest/meta-data;x/iam',
    '/latest/meta-data/iam?x', '/latest/meta-data/iam%3fx', '/latest/meta-data/iam#x',
    '/latest/meta-data/iam%00.x', '/latest/meta-data/i%00am', '/latest/meta-data/%c0%afiam',
    '/latest/meta-data/x/%c0%ae%c0%ae/iam', '/latest/meta-data/%e0%81%a9am', '/latest/meta-data/%u0069am',
    'http://169.254.169.254/latest/meta-data/iam', '//host/latest/meta-data/iam', 'latest/meta-data/iam',
    '/latest/meta-data/x%3f/../iam',
  ];
  assert.deepEqual(targets.filter((target) => hostIdentityIn(target) === undefined), []);
});

test('a path that only resembles one to the host\'s credentials is not recognised as one', () => {
  const targets = [
    '/', INSTANCE_ID_PATH, '/latest/meta-data/iamx', '/latest/iam', '/latest/meta-data/tags/instance/iam',
    '/latest/meta-data/iam/../instance-id', '/latest/meta-data/instance-id?/../iam', '/latest/meta-data',
  ];
  assert.deepEqual(targets.filter((target) => hostIdentityIn(target) !== undefined), []);
});

test('every request for the host\'s identity gets HOST_MARK, without a token and with any method', async (t) => {
  const imds = await start(t, { v2Only: true });
  const paths = [
    'iam', 'iam/info', 'iam/security-credentials', 'iam/security-credentials/x',
    'iam/security-credentials-extended/', 'iam/security-credentials-extended/x',
    'identity-credentials/ec2/security-credentials/ec2-instance',
  ];
  for (const path of paths) {
    const { status, body } = await get(imds, `/latest/meta-data/${path}`);
    assert.deepEqual([status, body.includes(HOST_MARK)], [200, true], path);
  }
  const { responses } = await raw({
    port: imds.port, responses: 3,
    bytes: 'POST http://x/latest/META-DATA\\iam HTTP/1.1\n\n'
      + 'GET /latest/meta-data/%2569am/info HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n'
      + 'GET /latest/meta-data/iam/ \r\n\r\n',
  });
  assert.deepEqual(responses.map(({ body }) => body.includes(HOST_MARK)), [true, true, true]);
  assert.ok(!(await get(imds, INSTANCE_ID_PATH)).body.includes(HOST_MARK));
});

test('requests are recorded unchanged, and keep-alive connections are reused', async (t) => {
  const imds = await start(t);
  const { responses } = await raw({
    port: imds.port, responses: 2,
    bytes: `GET /a%20b HTTP/1.1\r\nX-Odd:  value \r\n folded\r\n\r\nHEAD ${INSTANCE_ID_PATH} HTTP/1.1\r\n`
      + 'Connection: close\r\n\r\n',
  });
  assert.deepEqual(responses.map(({ status }) => status), [404]);
  const [first, second] = await imds.requests.several(2);
  assert.deepEqual([first?.method, first?.target, first?.version], ['GET', '/a%20b', 'HTTP/1.1']);
  assert.deepEqual(first?.rawHeaders, ['X-Odd', 'value folded']);
  assert.deepEqual([second?.method, second?.connection], ['HEAD', first?.connection]);
  await second?.closed;
  assert.equal(imds.openConnections, 0);
});

test('each fault makes the client fail, or changes the answer', async (t) => {
  const imds = await start(t, { userData: userDataOf(100_000) });
  const outcome = async (fault: ImdsFault): Promise<string> => {
    const lasting = imds.fault(/user-data/, fault);
    const result = await get(imds, '/latest/user-data').then(
      ({ status, bytes }) => `${status} ${bytes.length}`,
      (error: unknown) => (error instanceof Error && 'code' in error ? String(error.code) : String(error)),
    );
    lasting.lift();
    return result;
  };
  assert.equal(await outcome({ kind: 'delay', ms: 1 }), '200 100000');
  assert.equal(await outcome({ kind: 'chunked' }), '200 100000');
  assert.equal(await outcome({ kind: 'reset' }), 'ECONNRESET');
  assert.equal(await outcome({ kind: 'reset-in-body' }), 'ECONNRESET');
  assert.equal(await outcome({ kind: 'close-in-body' }), 'ECONNRESET');
  assert.equal(await outcome({ kind: 'content-length', value: 100_001 }), 'ECONNRESET');
  assert.equal(await outcome({ kind: 'content-length', value: 99_999 }), 'HPE_CLOSED_CONNECTION');
  assert.equal(await outcome({ kind: 'status', status: 404, body: 'gone' }), '404 4');
  assert.equal(await outcome({ kind: 'redirect', location: '/elsewhere' }), '302 0');
  assert.equal(await outcome({ kind: 'raw', bytes: 'SSH-2.0-x\r\n' }), 'HPE_INVALID_CONSTANT');
  assert.equal((await get(imds, '/latest/user-data')).bytes.length, 100_000);
});

test('a fault applies as often as requested and only to its method', async (t) => {
  const imds = await start(t);
  imds.fault(/./, { kind: 'status', status: 500 }, 1, 'PUT');
  assert.equal((await get(imds, INSTANCE_ID_PATH)).status, 200);
  assert.equal((await putToken(imds, { [TTL]: '60' })).status, 500);
  assert.equal((await putToken(imds, { [TTL]: '60' })).status, 200);
});

test('additional headers arrive unchanged', async (t) => {
  const imds = await start(t);
  const more = [['Keep-Alive', 'timeout=7'], ['X-More', 'a'], ['X-More', 'b']] as const;
  imds.fault(/./, { kind: 'headers', headers: more });
  const { headers } = await get(imds, INSTANCE_ID_PATH);
  assert.deepEqual([headers['keep-alive'], headers['x-more']], ['timeout=7', 'a, b']);
});

for (const framing of ['chunked', 'close'] as const) {
  test(`an endless body (${framing}) is sent while the client reads, and ends when it disconnects`, async (t) => {
    const imds = await start(t);
    imds.fault(/user-data/, { kind: 'endless', framing });
    const socket = connect(imds.port, '127.0.0.1');
    socket.write('GET /latest/user-data HTTP/1.1\r\n\r\n');
    for (let received = 0; received < 3_000_000;) {
      const [chunk] = await once(socket, 'data') as [Buffer];
      received += chunk.length;
    }
    socket.destroy();
    await (await imds.requests.first()).closed;
    assert.equal(imds.openConnections, 0);
  });
}

test('a client that disconnects during a pending answer is noticed', async (t) => {
  const imds = await start(t);
  imds.fault(/./, { kind: 'hold' });
  const leaving = new AbortController();
  const answer = get(imds, '/', { signal: leaving.signal });
  const { closed } = await imds.requests.first();
  leaving.abort();
  await assert.rejects(answer, { name: 'AbortError' });
  await closed;
});

test('a paused body continues when the fault is lifted', async (t) => {
  const imds = await start(t);
  const pause = imds.fault(/./, { kind: 'pause-in-body' });
  const answer = get(imds, INSTANCE_ID_PATH);
  await imds.requests.first();
  pause.lift();
  assert.equal((await answer).body, INSTANCE_ID);
});

test('a stopped server refuses connections and listens again on the same port', async (t) => {
  const imds = await start(t);
  await imds.stop();
  await assert.rejects(get(imds, '/'), { code: 'ECONNREFUSED' });
  await imds.listen();
  assert.equal((await get(imds, '/')).status, 200);
});
