import { DockerEngine } from '../../support/docker-engine.ts';
import { Imds } from '../../support/imds.ts';
import { Journal } from '../../support/journal.ts';
import { request, startProxyWithRawLog, type LogLine, type Test } from '../../support/proxy.ts';
import { Sts } from '../../support/sts.ts';
import { TOKEN_PATH, TTL, until, type Host } from '../host.ts';

/** A host for log levels and formats from which a test cannot read the ports. */
export async function quietHost(
  t: Test, env: Readonly<Record<string, string>>,
): Promise<{ host: Host; end(): Promise<string> }> {
  const [docker, imds, sts] = [await DockerEngine.start(), await Imds.start(), await Sts.start()];
  t.after(async () => void await Promise.all([docker.close(), imds.close(), sts.close()]));
  const { port, adminPort, pid, lines, stop, signal } = await startProxyWithRawLog(t, { docker, imds, sts, env });
  const ask: Host['ask'] = (from, path, headers = {}, method = 'GET') => request({ port, from, path, headers, method });
  const askOperator: Host['askOperator'] = (path, headers = {}, method = 'GET') =>
    request({ port: adminPort, path, headers, method });
  await until(() => askOperator('/readyz').then(({ status }) => status, () => 0), (status) => status === 200);
  const host: Host = {
    docker, imds, sts, ask, askOperator,
    proxy: {
      port, adminPort, pid, logs: new Journal<LogLine>('a log line'), stop, signal,
      awaitLog: () => Promise.reject(new Error("this host's log is not parsed")),
      reload: () => signal('SIGHUP'),
    },
    sessionToken: async (from, seconds = 21_600) =>
      (await ask(from, TOKEN_PATH, { [TTL]: String(seconds) }, 'PUT')).body,
    roleGiven: () => Promise.reject(new Error('unsupported by this host')),
  };
  return {
    host,
    end: async () => {
      await stop();
      return lines.entries.map((line) => `${line}\n`).join('');
    },
  };
}
