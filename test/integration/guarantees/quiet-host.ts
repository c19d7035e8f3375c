import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { DockerEngine } from '../../support/docker-engine.ts';
import { Imds } from '../../support/imds.ts';
import { Journal } from '../../support/journal.ts';
import { BASE_ACCESS_KEY, BASE_SECRET_KEY, request, type Exit, type LogLine, type Test } from '../../support/proxy.ts';
import { Sts } from '../../support/sts.ts';
import { TOKEN_PATH, TTL, until, type Host } from '../host.ts';

/** A host whose program need not say where it listens: for logs that are silent, or in another form than JSON or text. */
export async function quietHost(
  t: Test, env: Readonly<Record<string, string>>,
): Promise<{ host: Host; end(): Promise<string> }> {
  const [docker, imds, sts] = [await DockerEngine.start(), await Imds.start(), await Sts.start()];
  const [port, adminPort] = [await freePort(), await freePort()];
  const child = spawn(process.execPath, ['bin/metadataproxy'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      PATH: process.env['PATH'], HOST: '127.0.0.1', PORT: String(port), ADMIN_ADDR: `127.0.0.1:${adminPort}`,
      DOCKER_URL: docker.url, DOCKER_CONFIRM: 'never', METADATA_URL: imds.url, AWS_ENDPOINT_URL_STS: sts.url, AWS_ENDPOINT_URL_IAM: sts.url,
      AWS_ACCESS_KEY_ID: BASE_ACCESS_KEY, AWS_SECRET_ACCESS_KEY: BASE_SECRET_KEY, AWS_CONFIG_FILE: '/dev/null',
      AWS_SHARED_CREDENTIALS_FILE: '/dev/null', AWS_EC2_METADATA_DISABLED: 'true', ...env,
    },
  });
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (log += text));
  const exit = once(child, 'close').then(([code, signal]) => ({ code, signal }) as Exit);
  t.after(async () => {
    child.kill('SIGKILL');
    await exit;
    await Promise.all([docker.close(), imds.close(), sts.close()]);
  });
  const stop = (signal: NodeJS.Signals = 'SIGTERM'): Promise<Exit> => {
    child.kill(signal);
    return exit;
  };
  const ask: Host['ask'] = (from, path, headers = {}, method = 'GET') => request({ port, from, path, headers, method });
  const askOperator: Host['askOperator'] = (path, headers = {}, method = 'GET') =>
    request({ port: adminPort, path, headers, method });
  await until(() => askOperator('/readyz').then(({ status }) => status, () => 0), (status) => status === 200);
  const host: Host = {
    docker, imds, sts, ask, askOperator,
    proxy: {
      port, adminPort, pid: child.pid ?? 0, logs: new Journal<LogLine>('a log line'), stop,
      awaitLog: () => Promise.reject(new Error('its log is not read')),
      reload: () => void child.kill('SIGHUP'),
      signal: (signal) => void child.kill(signal),
    },
    sessionToken: async (from, seconds = 21_600) =>
      (await ask(from, TOKEN_PATH, { [TTL]: String(seconds) }, 'PUT')).body,
    roleGiven: () => Promise.reject(new Error('not asked here')),
  };
  return {
    host,
    end: async () => {
      await stop();
      return log;
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
