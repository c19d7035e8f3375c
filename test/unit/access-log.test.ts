import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NoRole } from '../../lib/assignments.ts';
import { UnknownCaller } from '../../lib/caller.ts';
import type { Container } from '../../lib/docker/container.ts';
import { Refusal } from '../../lib/http/errors.ts';
import type { Exchange } from '../../lib/http/exchange.ts';
import { match } from '../../lib/http/routes.ts';
import { UpstreamUnreachable } from '../../lib/imds/client.ts';
import { Log, type LogLevel } from '../../lib/log/log.ts';
import { AccessLog } from '../../lib/telemetry/access-log.ts';
import { aContainer } from './helpers/fixtures.ts';
import { ManualClock } from './helpers/manual-clock.ts';

const WEB = aContainer({ id: '1'.repeat(64), shortId: '1'.repeat(12), name: 'web' });
const JOB = aContainer({ id: '2'.repeat(64), shortId: '2'.repeat(12), name: 'job' });
const CREDENTIALS = '/latest/meta-data/iam/security-credentials/app';

interface Request {
  path?: string;
  caller?: Container | undefined;
  role?: string;
  address?: string;
  failure?: Error;
  status?: number;
}

function setUp(level: LogLevel = 'info') {
  const clock = new ManualClock();
  let text = '';
  const log = new Log({ level, format: 'json', host: 'h', write: (lines) => void (text += lines), now: clock.now });
  const accessLog = new AccessLog(log, clock);
  let count = 0;
  const answer = ({ path = CREDENTIALS, caller, role = 'app', address = '10.0.0.7', failure, status }: Request): void => {
    const credentials = failure ? undefined : { roleArn: `arn:aws:iam::123456789012:role/${role}` };
    const exchange = {
      id: `request-${(count += 1)}`, path, address, caller, credentials, roleRequest: undefined,
      request: { method: 'GET', url: path }, response: { statusCode: status ?? (failure ? 404 : 200) },
    };
    accessLog.requestAnswered(exchange as unknown as Exchange, match(path).route, failure, 0.001);
  };
  const lines = (): Record<string, unknown>[] => {
    log.flush();
    const written = text.split('\n').slice(0, -1).map((line) => JSON.parse(line) as Record<string, unknown>);
    text = '';
    return written;
  };
  const size = (): number => {
    log.flush();
    return text.length;
  };
  return { clock, accessLog, answer, lines, size };
}

const shown = ({ level, msg, container, suppressed }: Record<string, unknown>) => [level, msg, container, suppressed];

test('credentials served are logged at once, and then counted once a minute, for each caller and role', async () => {
  const { clock, answer, lines } = setUp();
  for (let times = 0; times < 250; times += 1) for (const caller of [WEB, JOB]) answer({ caller });
  answer({ caller: WEB, role: 'other' });
  assert.deepEqual(lines().map(shown), [
    ['info', 'credentials served', 'web', undefined],
    ['info', 'credentials served', 'job', undefined],
    ['info', 'credentials served', 'web', undefined],
  ]);
  await clock.advance(60_000);
  assert.deepEqual(lines().map(shown), [['info', 'credentials served', 'web', 248], ['info', 'credentials served', 'job', 248]]);
  await clock.advance(600_000);
  assert.deepEqual(lines(), []);
});

test('one container writes less than two megabytes a day, whatever it requests', async () => {
  const { clock, answer, size } = setUp();
  // 60 distinct paths a second, some of whose answers are refusals.
  for (let second = 0; second < 120; second += 1) {
    for (let times = 0; times < 60; times += 1) {
      answer({ caller: WEB, path: `/creds/${'x'.repeat(900)}${second}.${times}` });
      const failure = new Refusal(404, 'other_role', 'no');
      answer({ caller: WEB, path: `${CREDENTIALS}${'x'.repeat(900)}${second}.${times}`, failure });
    }
    await clock.advance(1_000);
  }
  assert.ok(size() * 720 < 2_000_000, `${size() * 720} bytes a day`);
});

for (const [path, logged] of [
  ['/creds/anything/at/all', '/creds'],
  ['/v2/credentials/0a1b2c', '/v2/credentials'],
  [`${CREDENTIALS}/and/more`, CREDENTIALS],
  ['/2019-10-01/meta-data/iam/info/x', '/2019-10-01/meta-data/iam/info'],
  ['/latest/meta-data/iam/security-credentials/', '/latest/meta-data/iam/security-credentials/'],
  ['/latest/meta-data/iam/x/y', '/latest/meta-data/iam/x/y'],
  [`${CREDENTIALS}${'x'.repeat(900)}`, `${CREDENTIALS}${'x'.repeat(128 - CREDENTIALS.length)}…`],
] as const) {
  test(`the log shows ${path.slice(0, 60)} without what the route ignores`, () => {
    const { answer, lines } = setUp();
    answer({ caller: WEB, path, failure: new NoRole('no role') });
    assert.deepEqual(lines().map((line) => line['path']), [logged]);
  });
}

test('a container that is renamed is logged with its new name', () => {
  const { answer, lines } = setUp();
  for (const name of ['web', 'web', 'shop', 'shop']) answer({ caller: { ...WEB, name } });
  assert.deepEqual(lines().map(({ container }) => container), ['web', 'shop']);
});

test('a refusal is logged once a minute for each caller and reason, whatever its error says', async () => {
  const { clock, answer, lines } = setUp();
  for (const text of ['a', 'b', 'c']) {
    answer({ caller: WEB, failure: new NoRole(text) });
    answer({ caller: WEB, failure: new Refusal(404, 'other_role', text) });
    answer({ caller: JOB, failure: new NoRole(text) });
  }
  assert.equal(lines().length, 3);
  await clock.advance(60_000);
  assert.deepEqual(lines().map(({ container, error, suppressed }) => [container, error, suppressed]), [
    ['web', 'c', 1], ['web', 'c', 1], ['job', 'c', 1],
  ]);
});

test('refusals of callers that nobody knows are deduplicated together', async () => {
  const { clock, answer, lines } = setUp();
  for (let host = 1; host < 255; host += 1) {
    const address = `127.0.0.${host}`;
    answer({ caller: undefined, address, failure: new UnknownCaller(`no container has the address ${address}`) });
  }
  assert.deepEqual(lines().map(({ address }) => address), ['127.0.0.1']);
  await clock.advance(60_000);
  assert.deepEqual(lines().map(({ address, suppressed }) => [address, suppressed]), [['127.0.0.254', 252]]);
});

test('a container without a role is a line also if its SDK only lists the roles', () => {
  const { answer, lines } = setUp();
  answer({ caller: WEB, path: '/latest/meta-data/iam/security-credentials/', failure: new NoRole('it declares none') });
  assert.deepEqual(lines().map(({ level, msg, error }) => [level, msg, error]), [['info', 'credentials refused', 'it declares none']]);
});

test('every other refusal is a line as well, but an upstream IMDS that fails is not: it has a line of its own', () => {
  const { answer, lines } = setUp();
  answer({ caller: WEB, path: '/latest/user-data', failure: new Refusal(401, 'token_missing', 'a session token is required') });
  answer({ caller: WEB, path: '/latest/user-data', failure: new UpstreamUnreachable('no answer') });
  assert.deepEqual(lines().map(({ level, msg, error }) => [level, msg, error]), [
    ['info', 'request refused', 'a session token is required'],
  ]);
});

test('other answers are lines at debug level only, and there every request is', () => {
  const info = setUp('info');
  const debug = setUp('debug');
  const warning = setUp('warning');
  for (const { answer } of [info, debug, warning]) {
    for (let times = 0; times < 2; times += 1) {
      answer({ caller: WEB, path: '/latest/user-data' });
      answer({ caller: WEB });
      answer({ caller: WEB, failure: new NoRole('none') });
    }
  }
  assert.deepEqual(info.lines().map(({ msg }) => msg), ['credentials served', 'credentials refused']);
  const each = ['answered', 'credentials served', 'credentials refused'];
  assert.deepEqual(debug.lines().map(({ msg }) => msg), [...each, ...each]);
  assert.deepEqual(warning.lines(), []);
});

test('what is suppressed is counted when the program ends', () => {
  const { accessLog, answer, lines } = setUp();
  for (let times = 0; times < 5; times += 1) answer({ caller: WEB });
  lines();
  accessLog.close();
  assert.deepEqual(lines().map(shown), [['info', 'credentials served', 'web', 3]]);
  accessLog.close();
  assert.deepEqual(lines(), []);
});
