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
import { arnOf, SOAK } from './scale.ts';

const EXTERNAL_ID = 'TheExternalIdOfTheContainer';
const SOURCE_TOKEN = 'TheSessionTokenOfTheProxyItself';
const SOURCE_ENV = { AWS_SESSION_TOKEN: SOURCE_TOKEN };
const [APP, DENIED, BROKEN, UNKNOWN] = ['127.0.0.11', '127.0.0.12', '127.0.0.13', '127.0.0.99'];
const PATHS = [
  '/creds', SECURITY_CREDENTIALS, `${SECURITY_CREDENTIALS}app`, INSTANCE_ID_PATH, '/latest/meta-data/iam/info', '/%',
  '/latest/meta-data/iam/security-credentials-extended/app', '/latest/api/token', '/v2/credentials/x',
];

/** Causes everything that is logged or reported. @returns the secrets that it used */
async function causeEverything({ docker, imds, sts, ask, sessionToken, askOperator }: Host): Promise<Secrets> {
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
  // Until the proxy has an upstream token again; on a busy machine the first attempt may time out.
  const tokens = () => imds.requests.all().map(({ rawHeaders }) => headerOf(rawHeaders, TOKEN)).filter((one) => one);
  await until(() => ask(APP, INSTANCE_ID_PATH).then(tokens), ({ length }) => length > 0);
  const broken = imds.fault('/latest/user-data', { kind: 'reset' });
  await ask(APP, '/latest/user-data', { [TOKEN]: token });
  broken.lift();
  docker.dropSubscribers();
  await docker.subscriptions.several(2);
  const status = await Promise.all(['/', '/status', '/readyz', '/healthz', '/metrics'].map((path) => askOperator(path)));
  const upstreamTokens = tokens();
  assert.ok(upstreamTokens.length > 0 && sts.issued.entries.length > 0);
  const values = [SECRET_MARK, TOKEN_MARK, SOURCE_SECRET_KEY, SOURCE_TOKEN, EXTERNAL_ID, token, bad, ...upstreamTokens];
  return { values: [...new Set(values)].map(String), reported: status.map(({ body }) => body).join('\n') };
}

interface Secrets {
  readonly values: readonly string[];
  /** The answers of the operator's listener. */
  readonly reported: string;
}

function assertNoneIn(text: string, { values }: Secrets, what: string): void {
  for (const value of values) {
    const at = text.indexOf(value);
    assert.ok(at === -1, `${value} is in ${what}: ${text.slice(Math.max(at - 200, 0), at + value.length + 50)}`);
  }
}

describe('no secret is', { concurrency: 4 }, () => {
  for (const format of ['text', 'json', 'gelf']) {
    // Every level logs a subset of debug; in the short form one format is enough to show it.
    for (const level of SOAK || format === 'json' ? ['debug', 'info', 'warning', 'error', 'panic'] : ['debug']) {
      test(`in the log or the operator's answers, with ${format} at ${level}`, async (t) => {
        // The other logs do not contain the ports, or not in a form that startProxy parses.
        if (format === 'gelf' || !['debug', 'info'].includes(level)) return await withQuietLog(t, format, level);
        const own = await host(t, { synced: false, env: { ...SOURCE_ENV, LOG_LEVEL: level, LOG_FORMAT: format } });
        await own.docker.subscriptions.first();
        const secrets = await causeEverything(own);
        await own.proxy.stop();
        const log = own.proxy.logs.entries.map(({ text }) => text).join('\n');
        assert.ok(log.includes('role not assumed'));
        assertNoneIn(log, secrets, 'the log');
        assertNoneIn(secrets.reported, secrets, 'the operator\'s answers');
        t.diagnostic(`${log.length} characters of log, ${secrets.reported.length} of status, ${secrets.values.length} secrets`);
      });
    }
  }

  test('in logged STS errors, even if STS repeats parameters of the call', async (t) => {
    const own = await host(t, { env: { ...SOURCE_ENV, LOG_LEVEL: 'debug' } });
    // AWS's messages: the first repeats a parameter, the second the signed headers.
    const echoes = {
      value: { status: 400, code: 'ValidationError', message: `Value '${EXTERNAL_ID}' at 'externalId' failed to satisfy` },
      canonical: {
        status: 403, code: 'SignatureDoesNotMatch',
        message: `The Canonical String for this request should have been 'POST x-amz-security-token:${SOURCE_TOKEN}'`,
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
    const secrets = { values: [EXTERNAL_ID, SOURCE_TOKEN], reported: body };
    assertNoneIn(own.proxy.logs.entries.map(({ text }) => text).join('\n'), secrets, 'the log');
    assertNoneIn(body, secrets, 'the status');
  });

  test('in the output after an unexpected error', async (t) => {
    // Code that throws while it handles secrets: when it serialises an answer, in a timer and in a promise.
    const directory = mkdtempSync(join(tmpdir(), 'metadataproxy-crash-'));
    t.after(() => rmSync(directory, { recursive: true }));
    const hook = join(directory, 'hook.cjs');
    writeFileSync(hook, `
      const original = JSON.stringify;
      JSON.stringify = (value, ...more) => {
        if (value?.SecretAccessKey === undefined) return original(value, ...more);
        setTimeout(() => { throw new RangeError('broken on purpose, in a timer'); });
        Promise.reject(new RangeError('broken on purpose, in a promise'));
        throw new TypeError('broken on purpose');
      };`);
    for (const format of ['text', 'json']) {
      const own = await host(t, {
        synced: false,
        env: { ...SOURCE_ENV, LOG_LEVEL: 'debug', LOG_FORMAT: format, NODE_OPTIONS: `--require ${hook}` },
      });
      await own.docker.subscriptions.first();
      const secrets = await causeEverything(own);
      const answer = await own.ask(APP, '/creds');
      assert.equal(answer.status, 500);
      assertNoneIn(answer.body, secrets, 'the answer');
      await own.proxy.stop();
      const log = own.proxy.logs.entries.map(({ text }) => text).join('\n');
      for (const where of ['on purpose', 'in a timer', 'in a promise']) assert.ok(log.includes(where), where);
      assertNoneIn(log, secrets, 'the log');
    }
  });

  test('in the output of --help, of commands and of a failed start', async (t) => {
    const own = await host(t);
    const secrets = await causeEverything(own);
    const given = { docker: own.docker, imds: own.imds, sts: own.sts };
    const operator = { ADMIN_ADDR: `127.0.0.1:${own.proxy.adminPort}` };
    const runs = await Promise.all([
      runToEnd({ ...given, env: SOURCE_ENV, args: ['--help'] }), runToEnd({ ...given, env: SOURCE_ENV, args: ['--version'] }),
      runToEnd({ ...given, env: { ...SOURCE_ENV, ...operator }, args: ['check'] }),
      runToEnd({ ...given, env: { ...SOURCE_ENV, ...operator, DEFAULT_ROLE: arnOf('broken') }, args: ['check', '--json'] }),
      runToEnd({ ...given, env: { ...SOURCE_ENV, ...operator }, args: ['roles'] }),
      runToEnd({ ...given, env: { ...SOURCE_ENV, ADMIN_ADDR: 'off' }, args: ['roles', '--json'] }),
      runToEnd({ ...given, env: { ...SOURCE_ENV, PORT: 'x', LOG_LEVEL: 'x', DEFAULT_ROLE: ' ' } }),
      runToEnd({ ...given, env: { ...SOURCE_ENV, PORT: String(own.proxy.port) } }),
      runToEnd({ ...given, env: SOURCE_ENV, args: ['--no-such-flag'] }),
    ]);
    assert.deepEqual(runs.map(({ code }) => code).slice(-3), [2, 1, 2]);
    for (const { stdout, stderr } of runs) {
      assert.ok(`${stdout}${stderr}`.length > 0);
      assertNoneIn(stdout + stderr, secrets, 'the output');
    }
  });

  test('in the arguments that ps shows; the proxy has no child process', async (t) => {
    const own = await host(t, { env: SOURCE_ENV });
    const secrets = await causeEverything(own);
    const { pid } = own.proxy;
    for (const file of ['cmdline', 'comm', 'status']) {
      assertNoneIn(readFileSync(`/proc/${pid}/${file}`, 'latin1'), secrets, file);
    }
    // The environment contains only what the operator set.
    const environ = readFileSync(`/proc/${pid}/environ`, 'latin1');
    assert.ok(environ.includes(SOURCE_ACCESS_KEY));
    const later = { ...secrets, values: secrets.values.filter((value) => value !== SOURCE_SECRET_KEY && value !== SOURCE_TOKEN) };
    assertNoneIn(environ, later, 'its environment');
    const children = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && parentOf(name) === pid);
    assert.deepEqual(children, []);
  });
});

/** The same with a log that does not contain the ports. */
async function withQuietLog(t: TestContext, format: string, level: string): Promise<void> {
  const own = await quietHost(t, { ...SOURCE_ENV, LOG_LEVEL: level, LOG_FORMAT: format });
  const secrets = await causeEverything(own.host);
  const log = await own.end();
  assert.equal(log === '', level === 'panic');
  assertNoneIn(log, secrets, 'the log');
  assertNoneIn(secrets.reported, secrets, 'the operator\'s answers');
}

function parentOf(pid: string): number {
  try {
    return Number(/^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0; // The process has ended.
  }
}
