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
  const pending = sts.fault({ kind: 'hold' }, arnOf('cold'));
  await docker.host.run({ name: 'cold', networks, env: { IAM_ROLE: arnOf('cold') } });
  const sockets = await Promise.all(
    Array.from({ length: 1_000 }, (_, index) => connected(addresses[index % 4] ?? '')),
  );
  const answers = sockets.map((socket) => {
    socket.write(`GET ${SECURITY_CREDENTIALS}cold HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    return bodyOf(socket);
  });
  await sts.calls.first(({ roleArn }) => roleArn === arnOf('cold'));
  pending.lift();
  const bodies = new Set(await Promise.all(answers));
  assert.equal(bodies.size, 1);
  assert.equal(sts.assumed(arnOf('cold')).length, 1);
});

test('a role is assumed once for many sequential requests', async () => {
  await docker.host.run({ address: '127.0.2.1', env: { IAM_ROLE: arnOf('warm') } });
  const first = accessKeyIn(await ask('127.0.2.1', '/creds'));
  for (let times = 0; times < 20; times += 1) assert.equal(accessKeyIn(await ask('127.0.2.1', '/creds')), first);
  assert.equal(sts.assumed(arnOf('warm')).length, 1);
});

test('containers with different external IDs never share credentials, even with the same name and ID', async () => {
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

test('two containers with the same role have separate sessions', async () => {
  await docker.host.run({ name: 'one', address: '127.0.2.3', env: { IAM_ROLE: arnOf('common') } });
  await docker.host.run({ name: 'two', address: '127.0.2.4', env: { IAM_ROLE: arnOf('common') } });
  const [one, two] = [await ask('127.0.2.3', '/creds'), await ask('127.0.2.4', '/creds')];
  assert.match(sts.issuedAs(accessKeyIn(one)).call.roleSessionName ?? '', /^one-/);
  assert.match(sts.issuedAs(accessKeyIn(two)).call.roleSessionName ?? '', /^two-/);
});

test('credentials are dropped with their last container; the next container gets new ones', async () => {
  const options = { name: 'again', id: 'a'.repeat(64), address: '127.0.2.5', env: { IAM_ROLE: arnOf('dropped') } };
  const first = await docker.host.run(options);
  const before = accessKeyIn(await ask('127.0.2.5', '/creds'));
  docker.host.remove(first);
  await docker.host.run(options);
  const now = accessKeyIn(await ask('127.0.2.5', '/creds'));
  assert.notEqual(now, before);
  assert.equal(sts.assumed(arnOf('dropped')).length, 2);
});

test('at most 16 AssumeRole calls are in flight, and all roles are assumed in the end', async (t) => {
  const own = await host(t);
  const pending = own.sts.fault({ kind: 'hold' });
  const addresses = Array.from({ length: 40 }, (_, index) => `127.0.3.${index + 1}`);
  for (const address of addresses) await own.docker.host.run({ address, env: { IAM_ROLE: arnOf(address) } });
  await own.sts.calls.several(16);
  const asked = addresses.map((address) => own.roleGiven(address));
  // During this request a call above the limit would have arrived.
  await own.roleGiven('127.0.3.255').catch(() => {});
  assert.equal(own.sts.inFlight, 16);
  pending.lift();
  assert.deepEqual(await Promise.all(asked), addresses.map(arnOf));
  assert.equal(own.sts.maxInFlight, 16);
});

// STS failures

let containers = 0;

/** The answer to a container whose AssumeRole fails. */
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

const RETRYABLE_FAILURES: readonly { readonly what: string; readonly fault: StsFault }[] = [
  { what: 'throttles', fault: { kind: 'throttle' } },
  { what: 'throttles with another error code', fault: { kind: 'error', status: 429, code: 'TooManyRequestsException' } },
  { what: 'answers 500', fault: { kind: 'error', status: 500, code: 'InternalFailure' } },
  { what: 'answers 503', fault: { kind: 'error', status: 503, code: 'ServiceUnavailable' } },
  { what: 'does not answer XML', fault: { kind: 'malformed' } },
  { what: 'answers half of its XML', fault: { kind: 'truncated' } },
  { what: 'answers without credentials', fault: { kind: 'body', body: '<AssumeRoleResponse/>' } },
  { what: 'resets the connection', fault: { kind: 'reset' } },
  { what: 'rejects the source credentials as expired', fault: { kind: 'expired-token' } },
  {
    what: 'does not know the source credentials',
    fault: { kind: 'error', status: 403, code: 'InvalidClientTokenId' },
  },
  {
    what: 'rejects the signature, as with a wrong clock',
    fault: { kind: 'error', status: 403, code: 'SignatureDoesNotMatch' },
  },
];
for (const { what, fault } of RETRYABLE_FAILURES) {
  test(`when STS ${what}, the answer is 503 with Retry-After, Code and Message`, async () => {
    const answer = await failing(fault);
    assert.equal(answer.status, 503, answer.body);
    assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/);
    assert.equal(answer.headers['content-type'], 'application/json');
    assert.deepEqual(Object.keys(jsonOf(answer)), ['Code', 'Message']);
    assert.doesNotMatch(answer.body, /arn:|AKIA|127\.0\.0\.1/);
  });
}

test('when STS is unreachable, the answer is 503 with Retry-After', async (t) => {
  const own = await host(t);
  await own.sts.stop();
  await own.docker.host.run({ address: '127.0.5.1', env: { IAM_ROLE: arnOf('unreachable') } });
  const answer = await own.ask('127.0.5.1', '/creds');
  assert.equal(answer.status, 503);
  assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/);
  await own.sts.listen();
  await until(() => own.ask('127.0.5.1', '/creds'), ({ status }) => status === 200);
});

test('requests for a denied role do not each cause an STS call', async () => {
  const { from, arn } = await failing({ kind: 'deny' });
  const before = sts.assumed(arn).length;
  const began = Date.now();
  for (let times = 0; times < 50; times += 1) await ask(from, '/creds');
  const maximum = 1 + Math.floor((Date.now() - began) / 500);
  assert.ok(sts.assumed(arn).length - before <= maximum, `${sts.assumed(arn).length - before} calls`);
});

test('after a failure credentials recover without a restart', async () => {
  const faults = [{ kind: 'deny' }, { kind: 'expired-token' }, { kind: 'malformed' }] as const;
  await Promise.all(faults.map(async (fault) => {
    const { from, arn, status } = await failing(fault, 1);
    assert.notEqual(status, 200);
    await until(() => ask(from, '/creds'), (answer) => answer.status === 200);
    assert.equal(await roleGiven(from), arn);
  }));
});

test('a slow role does not delay another container', async () => {
  const pending = sts.fault({ kind: 'hold' }, arnOf('slow'));
  await docker.host.run({ address: '127.0.5.2', env: { IAM_ROLE: arnOf('slow') } });
  await docker.host.run({ address: '127.0.5.3', env: { IAM_ROLE: arnOf('quick') } });
  const slow = roleGiven('127.0.5.2');
  assert.equal(await roleGiven('127.0.5.3'), arnOf('quick'));
  pending.lift();
  assert.equal(await slow, arnOf('slow'));
});

test('the log has the reason why a role was not assumed', async () => {
  const { arn } = await failing({ kind: 'deny' });
  const { fields } = await proxy.awaitLog((line) => line.level === 'error' && line.fields['role'] === arn);
  assert.match(String(fields['error']), /not authorized/);
});

// Tests that wait for credentials to expire run concurrently, because each takes some seconds.

describe('over time', { concurrency: true }, () => {
  test('credentials are refreshed in the background before they expire', async (t) => {
    const own = await host(t);
    own.sts.lifetimeSeconds = 4;
    await own.docker.host.run({ address: '127.0.6.1', env: { IAM_ROLE: arnOf('renewed') } });
    const first = accessKeyIn(await own.ask('127.0.6.1', '/creds'));
    // Without any request in between.
    const [, second] = await own.sts.issued.several(2);
    assert.ok(Date.now() < own.sts.issuedAs(first).expiration.getTime());
    const now = await until(() => own.ask('127.0.6.1', '/creds'), (answer) => accessKeyIn(answer) !== first);
    assert.equal(accessKeyIn(now), second?.accessKeyId);
  });

  test('served credentials have at least ROLE_CACHE_OFFSET left', async (t) => {
    const own = await host(t, { env: { ROLE_CACHE_OFFSET: '59m57s' } });
    own.sts.lifetimeSeconds = 2 * 3600;
    await own.docker.host.run({ address: '127.0.6.1', env: { IAM_ROLE: arnOf('offset') } });
    const answer = await own.ask('127.0.6.1', '/creds');
    assert.ok(Date.parse(jsonOf(answer)['Expiration'] ?? '') - Date.now() > 3_597_000);
  });

  test('while STS fails, valid credentials are served, after their expiry 503, and after the recovery new ones', async (t) => {
    const own = await host(t);
    own.sts.lifetimeSeconds = 6;
    await own.docker.host.run({ address: '127.0.6.1', env: { IAM_ROLE: arnOf('kept') } });
    const first = accessKeyIn(await own.ask('127.0.6.1', '/creds'));
    const { expiration } = own.sts.issuedAs(first);
    const outage = own.sts.fault({ kind: 'throttle' });
    await own.proxy.awaitLog('role not assumed');
    // Until shortly before the expiry, also while refreshes fail.
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

  test('a slow refresh delays no request', async (t) => {
    const own = await host(t);
    own.sts.lifetimeSeconds = 12;
    await own.docker.host.run({ address: '127.0.6.1', env: { IAM_ROLE: arnOf('slow-renewal') } });
    const first = accessKeyIn(await own.ask('127.0.6.1', '/creds'));
    const pending = own.sts.fault({ kind: 'hold' });
    await own.sts.calls.several(2, ({ action }) => action === 'AssumeRole');
    assert.equal(accessKeyIn(await own.ask('127.0.6.1', '/creds')), first);
    pending.lift();
    await until(() => own.ask('127.0.6.1', '/creds'), (answer) => accessKeyIn(answer) !== first);
  });

  test('credentials that are already expired are never served', async (t) => {
    const own = await host(t);
    own.sts.lifetimeSeconds = -10;
    await own.docker.host.run({ address: '127.0.6.1', env: { IAM_ROLE: arnOf('skewed') } });
    const answer = await own.ask('127.0.6.1', '/creds');
    assert.equal(answer.status, 503);
    const { fields } = await own.proxy.awaitLog('role not assumed');
    assert.match(String(fields['error']), /clock/);
  });
});
