import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { after, describe, test } from 'node:test';
import type { Response } from '../support/client.ts';
import { parseResponses } from '../support/http-bytes.ts';
import type { StsFault } from '../support/sts.ts';
import { accessKeyIn, host, jsonOf, SECURITY_CREDENTIALS, until } from './host.ts';

const shared = await host({ after }, { env: { MAX_CONNECTIONS_PER_ADDRESS: '1000' } });
const { docker, sts, proxy, ask, roleGiven } = shared;
const arnOf = (name: string): string => `arn:aws:iam::123456789012:role/${name}`;

async function connected(from: string): Promise<Socket> {
  const socket = connect({ port: proxy.port, host: '127.0.0.1', localAddress: from });
  await once(socket, 'connect');
  return socket;
}

async function bodyOf(socket: Socket): Promise<string> {
  let text = '';
  for await (const chunk of socket.setEncoding('latin1') as AsyncIterable<string>) text += chunk;
  const [response] = parseResponses(text, false, true);
  assert.equal(response?.status, 200, text);
  return response.body;
}

test('1,000 simultaneous requests for one cold role make exactly 1 AssumeRole', async () => {
  const addresses = ['127.0.1.1', '127.0.1.2', '127.0.1.3', '127.0.1.4'];
  const networks = Object.fromEntries(addresses.map((address, index) => [`cold-${index}`, { address }]));
  const hold = sts.fault({ kind: 'hold' }, arnOf('cold'));
  await docker.host.run({ name: 'cold', networks, env: { IAM_ROLE: arnOf('cold') } });
  const sockets = await Promise.all(
    Array.from({ length: 1_000 }, (_, index) => connected(addresses[index % 4] ?? '')),
  );
  const answers = sockets.map((socket) => {
    socket.write(`GET ${SECURITY_CREDENTIALS}cold HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    return bodyOf(socket);
  });
  await sts.calls.first(({ roleArn }) => roleArn === arnOf('cold'));
  hold.lift();
  const bodies = new Set(await Promise.all(answers));
  assert.equal(bodies.size, 1);
  assert.equal(sts.assumed(arnOf('cold')).length, 1);
});

test('a role is assumed once for many requests, one after another', async () => {
  await docker.host.run({ address: '127.0.2.1', env: { IAM_ROLE: arnOf('warm') } });
  const first = accessKeyIn(await ask('127.0.2.1', '/creds'));
  for (let times = 0; times < 20; times += 1) assert.equal(accessKeyIn(await ask('127.0.2.1', '/creds')), first);
  assert.equal(sts.assumed(arnOf('warm')).length, 1);
});

test('containers with different external ids never share credentials, even of the same name and id', async () => {
  const keys = new Set<string>();
  const id = 'e'.repeat(64);
  for (const externalId of ['one', 'two', '', 'One']) {
    const container = await docker.host.run({
      name: 'same', id, address: '127.0.2.2', env: { IAM_ROLE: arnOf('external'), IAM_EXTERNAL_ID: externalId },
    });
    const key = accessKeyIn(await ask('127.0.2.2', '/creds'));
    assert.equal(sts.issuedAs(key).call.externalId, externalId || undefined);
    keys.add(key);
    docker.host.remove(container);
  }
  assert.equal(keys.size, 4);
});

test('two containers with the same role have sessions of their own', async () => {
  await docker.host.run({ name: 'one', address: '127.0.2.3', env: { IAM_ROLE: arnOf('common') } });
  await docker.host.run({ name: 'two', address: '127.0.2.4', env: { IAM_ROLE: arnOf('common') } });
  const [one, two] = [await ask('127.0.2.3', '/creds'), await ask('127.0.2.4', '/creds')];
  assert.match(sts.issuedAs(accessKeyIn(one)).call.roleSessionName ?? '', /^one-/);
  assert.match(sts.issuedAs(accessKeyIn(two)).call.roleSessionName ?? '', /^two-/);
});

test('credentials are dropped when their last container ends: the next one\'s are assumed anew', async () => {
  const options = { name: 'again', id: 'a'.repeat(64), address: '127.0.2.5', env: { IAM_ROLE: arnOf('dropped') } };
  const first = await docker.host.run(options);
  const before = accessKeyIn(await ask('127.0.2.5', '/creds'));
  docker.host.remove(first);
  await docker.host.run(options);
  const now = accessKeyIn(await ask('127.0.2.5', '/creds'));
  assert.notEqual(now, before);
  assert.equal(sts.assumed(arnOf('dropped')).length, 2);
});

test('at most 16 roles are being assumed at once, and all are in the end', async (t) => {
  const own = await host(t);
  const hold = own.sts.fault({ kind: 'hold' });
  const addresses = Array.from({ length: 40 }, (_, index) => `127.0.3.${index + 1}`);
  for (const address of addresses) await own.docker.host.run({ address, env: { IAM_ROLE: arnOf(address) } });
  await own.sts.calls.several(16);
  const asked = addresses.map((address) => own.roleGiven(address));
  // Each answer takes the time in which a call beyond the limit would have come.
  await own.roleGiven('127.0.3.255').catch(() => {});
  assert.equal(own.sts.inFlight, 16);
  hold.lift();
  assert.deepEqual(await Promise.all(asked), addresses.map(arnOf));
  assert.equal(own.sts.maxInFlight, 16);
});

// When STS does not give them

let containers = 0;

/** The answer to a container whose role STS fails to give. */
async function failing(fault: StsFault, times = Infinity): Promise<Response & { arn: string; from: string }> {
  containers += 1;
  const [arn, from] = [arnOf(`failing-${containers}`), `127.0.4.${containers}`];
  sts.fault(fault, arn, times);
  await docker.host.run({ name: `failing-${containers}`, address: from, env: { IAM_ROLE: arn } });
  return { ...await ask(from, '/creds'), arn, from };
}

test('when STS denies the role, the answer is 403 with Code and Message in JSON', async () => {
  const answer = await failing({ kind: 'deny' });
  assert.equal(answer.status, 403);
  assert.equal(answer.headers['content-type'], 'application/json');
  assert.deepEqual(Object.keys(jsonOf(answer)), ['Code', 'Message']);
  assert.equal(jsonOf(answer)['Code'], 'AssumeRoleUnauthorizedAccess');
  assert.equal(answer.headers['retry-after'], undefined);
});

const PASSING_TROUBLE: readonly { readonly what: string; readonly fault: StsFault }[] = [
  { what: 'throttles', fault: { kind: 'throttle' } },
  { what: 'throttles in other words', fault: { kind: 'error', status: 429, code: 'TooManyRequestsException' } },
  { what: 'answers 500', fault: { kind: 'error', status: 500, code: 'InternalFailure' } },
  { what: 'answers 503', fault: { kind: 'error', status: 503, code: 'ServiceUnavailable' } },
  { what: 'answers no XML', fault: { kind: 'malformed' } },
  { what: 'answers half of its XML', fault: { kind: 'truncated' } },
  { what: 'answers without credentials', fault: { kind: 'body', body: '<AssumeRoleResponse/>' } },
  { what: 'breaks off', fault: { kind: 'reset' } },
  { what: 'says that the proxy\'s own credentials have expired', fault: { kind: 'expired-token' } },
  {
    what: 'does not know the proxy\'s own credentials',
    fault: { kind: 'error', status: 403, code: 'InvalidClientTokenId' },
  },
  {
    what: 'finds the signature wrong, as it does when a clock is',
    fault: { kind: 'error', status: 403, code: 'SignatureDoesNotMatch' },
  },
];
for (const { what, fault } of PASSING_TROUBLE) {
  test(`when STS ${what}, the answer is 503 with Retry-After, Code and Message`, async () => {
    const answer = await failing(fault);
    assert.equal(answer.status, 503, answer.body);
    assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/);
    assert.equal(answer.headers['content-type'], 'application/json');
    assert.deepEqual(Object.keys(jsonOf(answer)), ['Code', 'Message']);
    assert.doesNotMatch(answer.body, /arn:|AKIA|127\.0\.0\.1/);
  });
}

test('when STS cannot be reached, the answer is 503 with Retry-After', async (t) => {
  const own = await host(t);
  await own.sts.stop();
  await own.docker.host.run({ address: '127.0.5.1', env: { IAM_ROLE: arnOf('unreachable') } });
  const answer = await own.ask('127.0.5.1', '/creds');
  assert.equal(answer.status, 503);
  assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/);
  await own.sts.listen();
  await until(() => own.ask('127.0.5.1', '/creds'), ({ status }) => status === 200);
});

test('STS is not asked again for every request while it denies', async () => {
  const { from, arn } = await failing({ kind: 'deny' });
  const before = sts.assumed(arn).length;
  const began = Date.now();
  for (let times = 0; times < 50; times += 1) await ask(from, '/creds');
  const most = 1 + Math.floor((Date.now() - began) / 500);
  assert.ok(sts.assumed(arn).length - before <= most, `${sts.assumed(arn).length - before} calls`);
});

test('when the trouble is over, credentials are there without a restart', async () => {
  const faults = [{ kind: 'deny' }, { kind: 'expired-token' }, { kind: 'malformed' }] as const;
  await Promise.all(faults.map(async (fault) => {
    const { from, arn, status } = await failing(fault, 1);
    assert.notEqual(status, 200);
    await until(() => ask(from, '/creds'), (answer) => answer.status === 200);
    assert.equal(await roleGiven(from), arn);
  }));
});

test('one container\'s trouble is not another one\'s', async () => {
  const hold = sts.fault({ kind: 'hold' }, arnOf('slow'));
  await docker.host.run({ address: '127.0.5.2', env: { IAM_ROLE: arnOf('slow') } });
  await docker.host.run({ address: '127.0.5.3', env: { IAM_ROLE: arnOf('quick') } });
  const slow = roleGiven('127.0.5.2');
  assert.equal(await roleGiven('127.0.5.3'), arnOf('quick'));
  hold.lift();
  assert.equal(await slow, arnOf('slow'));
});

test('the log says why a role was not assumed', async () => {
  const { arn } = await failing({ kind: 'deny' });
  const { fields } = await proxy.awaitLog((line) => line.level === 'error' && line.fields['role'] === arn);
  assert.match(String(fields['error']), /not authorized/);
});

// Time: each takes some seconds, so they share them.

describe('in the course of time', { concurrency: true }, () => {
  test('credentials are renewed in the background before they expire', async (t) => {
    const own = await host(t);
    own.sts.lifetimeSeconds = 4;
    await own.docker.host.run({ address: '127.0.6.1', env: { IAM_ROLE: arnOf('renewed') } });
    const first = accessKeyIn(await own.ask('127.0.6.1', '/creds'));
    // Nobody asks meanwhile.
    const [, second] = await own.sts.issued.several(2);
    assert.ok(Date.now() < own.sts.issuedAs(first).expiration.getTime());
    const now = await until(() => own.ask('127.0.6.1', '/creds'), (answer) => accessKeyIn(answer) !== first);
    assert.equal(accessKeyIn(now), second?.accessKeyId);
  });

  test('what is handed out has at least ROLE_CACHE_OFFSET left', async (t) => {
    const own = await host(t, { env: { ROLE_CACHE_OFFSET: '59m57s' } });
    own.sts.lifetimeSeconds = 2 * 3600;
    await own.docker.host.run({ address: '127.0.6.1', env: { IAM_ROLE: arnOf('offset') } });
    const answer = await own.ask('127.0.6.1', '/creds');
    assert.ok(Date.parse(jsonOf(answer)['Expiration'] ?? '') - Date.now() > 3_597_000);
  });

  test('while STS fails, what is still valid is handed out; after that the failure; and then new ones', async (t) => {
    const own = await host(t);
    own.sts.lifetimeSeconds = 6;
    await own.docker.host.run({ address: '127.0.6.1', env: { IAM_ROLE: arnOf('kept') } });
    const first = accessKeyIn(await own.ask('127.0.6.1', '/creds'));
    const { expiration } = own.sts.issuedAs(first);
    const outage = own.sts.fault({ kind: 'throttle' });
    await own.proxy.awaitLog('role not assumed');
    // Until shortly before the end, also in the second half of their life in which new ones are wanted.
    const last = await until(async () => {
      const answer = await own.ask('127.0.6.1', '/creds');
      if (Date.now() < expiration.getTime()) {
        assert.deepEqual([answer.status, accessKeyIn(answer)], [200, first]);
      }
      return answer;
    }, ({ status }) => status !== 200);
    assert.equal(last.status, 503);
    assert.ok(Date.now() >= expiration.getTime());
    own.sts.lifetimeSeconds = undefined;
    outage.lift();
    const recovered = await until(() => own.ask('127.0.6.1', '/creds'), ({ status }) => status === 200);
    assert.notEqual(accessKeyIn(recovered), first);
  });

  test('a renewal that STS is slow to answer holds nobody up for long', async (t) => {
    const own = await host(t);
    own.sts.lifetimeSeconds = 12;
    await own.docker.host.run({ address: '127.0.6.1', env: { IAM_ROLE: arnOf('slow-renewal') } });
    const first = accessKeyIn(await own.ask('127.0.6.1', '/creds'));
    const hold = own.sts.fault({ kind: 'hold' });
    await own.sts.calls.several(2, ({ action }) => action === 'AssumeRole');
    assert.equal(accessKeyIn(await own.ask('127.0.6.1', '/creds')), first);
    hold.lift();
    await until(() => own.ask('127.0.6.1', '/creds'), (answer) => accessKeyIn(answer) !== first);
  });

  test('credentials that have expired already are never handed out', async (t) => {
    const own = await host(t);
    own.sts.lifetimeSeconds = -10;
    await own.docker.host.run({ address: '127.0.6.1', env: { IAM_ROLE: arnOf('skewed') } });
    const answer = await own.ask('127.0.6.1', '/creds');
    assert.equal(answer.status, 503);
    const { fields } = await own.proxy.awaitLog('role not assumed');
    assert.match(String(fields['error']), /clock/);
  });
});
