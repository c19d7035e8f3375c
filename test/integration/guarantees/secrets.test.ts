import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { headerOf } from '../../support/http-bytes.ts';
import { SOURCE_ACCESS_KEY, SOURCE_SECRET_KEY, runToEnd } from '../../support/proxy.ts';
import { SECRET_MARK, TOKEN_MARK } from '../../support/sts.ts';
import { host, INSTANCE_ID_PATH, SECURITY_CREDENTIALS, TOKEN, TTL, until, type Host } from '../host.ts';
import { quietHost } from './quiet-host.ts';
import { arnOf, SOAK } from './size.ts';

const EXTERNAL_ID = 'TheExternalIdOfTheContainer';
const BASE_TOKEN = 'TheSessionTokenOfTheProxyItself';
const BASE = { AWS_SESSION_TOKEN: BASE_TOKEN };
const [APP, DENIED, BROKEN, UNKNOWN] = ['127.0.0.11', '127.0.0.12', '127.0.0.13', '127.0.0.99'];
const PATHS = [
  '/creds', SECURITY_CREDENTIALS, `${SECURITY_CREDENTIALS}app`, INSTANCE_ID_PATH, '/latest/meta-data/iam/info', '/%',
  '/latest/meta-data/iam/security-credentials-extended/app', '/latest/api/token', '/v2/credentials/x',
];

/** Everything happens that is written about somewhere; gives the secrets that were in play. */
async function everything({ docker, imds, sts, ask, sessionToken, askOperator }: Host): Promise<Secrets> {
  const env = (name: string) => ({ IAM_ROLE: arnOf(name), IAM_EXTERNAL_ID: EXTERNAL_ID });
  sts.externalIds.set(arnOf('denied'), 'another one');
  sts.fault({ kind: 'expired-token' }, arnOf('broken'));
  await docker.host.run({ name: 'app', address: APP, env: env('app') });
  await docker.host.run({ name: 'denied', address: DENIED, env: env('denied') });
  await docker.host.run({ name: 'broken', address: BROKEN, env: env('broken') });
  await docker.host.run({ name: 'bad', address: '127.0.0.14', env: { ...env('x'), IAM_EXTERNAL_ID: `${EXTERNAL_ID} !` } });
  const token = await sessionToken(APP);
  const bad = `${token.slice(0, -1)}!`;
  await Promise.all([APP, DENIED, BROKEN, '127.0.0.14', UNKNOWN].flatMap((from) => PATHS.flatMap((path) => [
    ask(from, path), ask(from, path, { [TOKEN]: token }), ask(from, path, { [TOKEN]: bad }),
    ask(from, path, { [TTL]: token, 'x-forwarded-for': token }, 'PUT'), ask(from, path, { [TOKEN]: token }, 'POST'),
  ])));
  imds.revokeTokens();
  // Until the proxy has a token of its own again; a busy machine may be too slow for the first one.
  const tokens = () => imds.requests.all().map(({ rawHeaders }) => headerOf(rawHeaders, TOKEN)).filter((one) => one);
  await until(() => ask(APP, INSTANCE_ID_PATH).then(tokens), ({ length }) => length > 0);
  const broken = imds.fault('/latest/user-data', { kind: 'reset' });
  await ask(APP, '/latest/user-data', { [TOKEN]: token });
  broken.lift();
  docker.dropSubscribers();
  await docker.subscriptions.several(2);
  const status = await Promise.all(['/', '/status', '/readyz', '/healthz', '/metrics'].map((path) => askOperator(path)));
  const theirs = tokens();
  assert.ok(theirs.length > 0 && sts.issued.entries.length > 0);
  const values = [SECRET_MARK, TOKEN_MARK, SOURCE_SECRET_KEY, BASE_TOKEN, EXTERNAL_ID, token, bad, ...theirs];
  return { values: [...new Set(values)].map(String), told: status.map(({ body }) => body).join('\n') };
}

interface Secrets {
  readonly values: readonly string[];
  /** What the operator's listener told. */
  readonly told: string;
}

function assertNoneIn(text: string, { values }: Secrets, what: string): void {
  for (const value of values) {
    const at = text.indexOf(value);
    assert.ok(at === -1, `${value} is in ${what}: ${text.slice(Math.max(at - 200, 0), at + value.length + 50)}`);
  }
}

describe('no secret is', { concurrency: 4 }, () => {
  for (const format of ['text', 'json', 'gelf']) {
    // Each level has a part of the lines of debug; in the short form one format shows that.
    for (const level of SOAK || format === 'json' ? ['debug', 'info', 'warning', 'error', 'panic'] : ['debug']) {
      test(`in the log or in what the operator is told, with ${format} at ${level}`, async (t) => {
        // Others do not say, or not so that it can be read here, where they listen.
        if (format === 'gelf' || !['debug', 'info'].includes(level)) return await quiet(t, format, level);
        const own = await host(t, { synced: false, env: { ...BASE, LOG_LEVEL: level, LOG_FORMAT: format } });
        await own.docker.subscriptions.first();
        const secrets = await everything(own);
        await own.proxy.stop();
        const log = own.proxy.logs.entries.map(({ text }) => text).join('\n');
        assert.ok(log.includes('role not assumed'));
        assertNoneIn(log, secrets, 'the log');
        assertNoneIn(secrets.told, secrets, 'what the operator is told');
        t.diagnostic(`${log.length} characters of log, ${secrets.told.length} of status, ${secrets.values.length} secrets`);
      });
    }
  }

  test('in the words of STS that are written down, whatever STS repeats of the call', async (t) => {
    const own = await host(t, { env: { ...BASE, LOG_LEVEL: 'debug' } });
    // As AWS words them: the first repeats a parameter, the second the signed headers.
    const echoes = {
      value: { status: 400, code: 'ValidationError', message: `Value '${EXTERNAL_ID}' at 'externalId' failed to satisfy` },
      canonical: {
        status: 403, code: 'SignatureDoesNotMatch',
        message: `The Canonical String for this request should have been 'POST x-amz-security-token:${BASE_TOKEN}'`,
      },
    };
    for (const [index, [name, echo]] of Object.entries(echoes).entries()) {
      own.sts.fault({ kind: 'error', ...echo }, arnOf(name));
      const address = `127.0.0.${21 + index}`;
      await own.docker.host.run({ name, address, env: { IAM_ROLE: arnOf(name), IAM_EXTERNAL_ID: EXTERNAL_ID } });
      await own.ask(address, '/creds');
      await own.proxy.awaitLog(({ msg, fields }) => msg === 'role not assumed' && fields['role'] === arnOf(name));
    }
    const { body } = await own.askOperator('/status');
    const secrets = { values: [EXTERNAL_ID, BASE_TOKEN], told: body };
    assertNoneIn(own.proxy.logs.entries.map(({ text }) => text).join('\n'), secrets, 'the log');
    assertNoneIn(body, secrets, 'the status');
  });

  test('in what is written when something unexpected happens', async (t) => {
    // Code that fails just where the secrets are at hand: when an answer with them is made, and in a timer.
    const directory = mkdtempSync(join(tmpdir(), 'metadataproxy-crash-'));
    t.after(() => rmSync(directory, { recursive: true }));
    const hook = join(directory, 'hook.cjs');
    writeFileSync(hook, `
      const whole = JSON.stringify;
      JSON.stringify = (value, ...more) => {
        if (value?.SecretAccessKey === undefined) return whole(value, ...more);
        setTimeout(() => { throw new RangeError('broken on purpose, in a timer'); });
        Promise.reject(new RangeError('broken on purpose, in a promise'));
        throw new TypeError('broken on purpose');
      };`);
    for (const format of ['text', 'json']) {
      const own = await host(t, {
        synced: false,
        env: { ...BASE, LOG_LEVEL: 'debug', LOG_FORMAT: format, NODE_OPTIONS: `--require ${hook}` },
      });
      await own.docker.subscriptions.first();
      const secrets = await everything(own);
      const answer = await own.ask(APP, '/creds');
      assert.equal(answer.status, 500);
      assertNoneIn(answer.body, secrets, 'the answer');
      await own.proxy.stop();
      const log = own.proxy.logs.entries.map(({ text }) => text).join('\n');
      for (const where of ['on purpose', 'in a timer', 'in a promise']) assert.ok(log.includes(where), where);
      assertNoneIn(log, secrets, 'the log');
    }
  });

  test('in what is printed by help, by commands and by a start that fails', async (t) => {
    const own = await host(t);
    const secrets = await everything(own);
    const given = { docker: own.docker, imds: own.imds, sts: own.sts };
    const operator = { ADMIN_ADDR: `127.0.0.1:${own.proxy.adminPort}` };
    const runs = await Promise.all([
      runToEnd({ ...given, env: BASE, args: ['--help'] }), runToEnd({ ...given, env: BASE, args: ['--version'] }),
      runToEnd({ ...given, env: { ...BASE, ...operator }, args: ['check'] }),
      runToEnd({ ...given, env: { ...BASE, ...operator, DEFAULT_ROLE: arnOf('broken') }, args: ['check', '--json'] }),
      runToEnd({ ...given, env: { ...BASE, ...operator }, args: ['roles'] }),
      runToEnd({ ...given, env: { ...BASE, ADMIN_ADDR: 'off' }, args: ['roles', '--json'] }),
      runToEnd({ ...given, env: { ...BASE, PORT: 'x', LOG_LEVEL: 'x', DEFAULT_ROLE: ' ' } }),
      runToEnd({ ...given, env: { ...BASE, PORT: String(own.proxy.port) } }),
      runToEnd({ ...given, env: BASE, args: ['--no-such-flag'] }),
    ]);
    assert.deepEqual(runs.map(({ code }) => code).slice(-3), [2, 1, 2]);
    for (const { stdout, stderr } of runs) {
      assert.ok(`${stdout}${stderr}`.length > 0);
      assertNoneIn(stdout + stderr, secrets, 'what was printed');
    }
  });

  test('in the arguments that ps shows, and there is no child whose environment could have one', async (t) => {
    const own = await host(t, { env: BASE });
    const secrets = await everything(own);
    const { pid } = own.proxy;
    for (const file of ['cmdline', 'comm', 'status']) {
      assertNoneIn(readFileSync(`/proc/${pid}/${file}`, 'latin1'), secrets, file);
    }
    // What is there is what it was given, and nothing that it got later.
    const environ = readFileSync(`/proc/${pid}/environ`, 'latin1');
    assert.ok(environ.includes(SOURCE_ACCESS_KEY));
    const later = { ...secrets, values: secrets.values.filter((value) => value !== SOURCE_SECRET_KEY && value !== BASE_TOKEN) };
    assertNoneIn(environ, later, 'its environment');
    const children = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && parentOf(name) === pid);
    assert.deepEqual(children, []);
  });
});

/** With a log that says nothing of where it listens, the port is one that was free a moment ago. */
async function quiet(t: TestContext, format: string, level: string): Promise<void> {
  const own = await quietHost(t, { ...BASE, LOG_LEVEL: level, LOG_FORMAT: format });
  const secrets = await everything(own.host);
  const log = await own.end();
  assert.equal(log === '', level === 'panic');
  assertNoneIn(log, secrets, 'the log');
  assertNoneIn(secrets.told, secrets, 'what the operator is told');
}

function parentOf(pid: string): number {
  try {
    return Number(/^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0; // It has ended meanwhile.
  }
}
