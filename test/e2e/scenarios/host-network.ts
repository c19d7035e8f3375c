import { strict as assert } from 'node:assert';
import { chmod, mkdir, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { METADATA, ROLE_NAMES, ask, get, refusal, roleName } from '../metadata-requests.ts';
import type { Container } from '../container.ts';
import { BUSYBOX } from '../docker-engine.ts';
import { INSTANCE_ID } from '../host-identity.ts';
import { ACCOUNT, IMDS_ADDRESS, LOCAL_IPV4, type Lab } from '../lab.ts';
import type { Result } from '../machine.ts';
import { PROXY_PORT } from '../ports.ts';
import { STATIC_KEYS } from '../proxy.ts';

/** The proxy's user ID, and a user ID on the host. No other process uses them. */
const PROXY_USER = 64_018;
const HOST_USER = 64_019;
const SETUP = resolve('iptables/setup');
const CAPABILITIES = '-all,+sys_ptrace,+dac_read_search';

/** Host-network containers and host processes. */
export function hostNetwork(lab: Lab): void {
  /** Starts the proxy in the host's PID namespace, as a separate user with these capabilities. */
  async function startProxy(settings: Readonly<Record<string, string>>, capabilities = CAPABILITIES): Promise<void> {
    const directory = dirname(lab.docker.socket);
    const programs = join(directory, 'host-network');
    const { gid } = await stat(lab.docker.socket);
    await chmod(directory, 0o711);
    await mkdir(programs, { recursive: true });
    // The program's shebang finds this `node`. The signal goes to `nsenter`; --pdeathsig ends the program with it.
    await writeFile(join(programs, 'node'), `#!/bin/sh
exec nsenter --target=${lab.host.pid} --mount --pid -- setpriv --reuid=${PROXY_USER} --regid=${PROXY_USER} \\
  --groups=${gid} --inh-caps=${capabilities} --ambient-caps=${capabilities} --bounding-set=${capabilities} \\
  --no-new-privs --pdeathsig KILL ${process.execPath} "$@"
`, { mode: 0o755 });
    await lab.startProxy({
      ...STATIC_KEYS, DEFAULT_ACCOUNT_ID: ACCOUNT, HOME: '/nonexistent', PATH: `${programs}:${process.env['PATH']}`,
      HOST_NETWORK: 'root', ...settings,
    });
  }

  before(async () => {
    await lab.host.run([SETUP, 'install', '--host-network-root', '--proxy-user', String(PROXY_USER)]);
  });

  function asHostUser(...command: string[]): Promise<Result> {
    const user = ['setpriv', `--reuid=${HOST_USER}`, `--regid=${HOST_USER}`, '--clear-groups'];
    return lab.host.tryRun([...user, ...command]);
  }

  /** The answer to a host process: the body, or a status other than 200. */
  async function askAsHost(url: string, ...more: string[]): Promise<string> {
    const { stdout } = await asHostUser(...curl(url, ...more));
    const [status, body = ''] = stdout.split('\n', 2);
    return status === '200' ? body : status ?? '';
  }

  function startIdle(name: string, env: Readonly<Record<string, string>> = {}): Promise<Container> {
    return lab.docker.startIdle(name, env, { network: 'host', hostPrograms: true });
  }

  describe('without HOST_ROLE', () => {
    let app: Container;
    let worker: Container;

    before(async () => {
      await startProxy({});
      [app, worker] = await Promise.all([
        startIdle('host-app', { IAM_ROLE: 'app' }), startIdle('host-worker', { IAM_ROLE: 'worker' }),
      ]);
    });

    after(() => Promise.all([app.remove(), worker.remove()]));

    test('two containers and a host process each get only their own role when they send requests concurrently', async () => {
      for (let round = 0; round < 30; round += 1) {
        const answers = await Promise.all([roleName(app), roleName(worker), askAsHost(ROLE_NAMES)]);
        assert.deepEqual(answers, ['app', 'worker', '404'], `round ${round}`);
      }
    });

    test('all other requests of the host process pass through', async () => {
      assert.equal(await askAsHost(`${METADATA}/instance-id`), INSTANCE_ID);
      assert.equal(await ask(app, `${METADATA}/instance-id`), INSTANCE_ID);
    });

    test('a session token is valid for its container on all connections, and for no other caller', async () => {
      const token = await app.exec(...curl(`http://${IMDS_ADDRESS}/latest/api/token`, '-X', 'PUT', '-H', TTL));
      const [status, text] = token.split('\n');
      assert.equal(status, '200');
      const withToken = ['-H', `X-aws-ec2-metadata-token: ${text}`];
      assert.deepEqual((await app.exec(...curl(ROLE_NAMES, ...withToken))).split('\n'), ['200', 'app']);
      assert.match(await worker.exec(...curl(ROLE_NAMES, ...withToken)), /^401/);
      assert.equal(await askAsHost(ROLE_NAMES, ...withToken), '401');
    });

    test('a network peer of a host-network container has its own role', async () => {
      const joined = await lab.docker.startIdle('joined', { IAM_ROLE: 'fallback' }, { network: `container:${app.id}` });
      const withoutRole = await lab.docker.startIdle('joined-no-role', {}, { network: `container:${app.id}` });
      const answers = await Promise.all([roleName(joined), roleName(app), refusal(withoutRole, ROLE_NAMES)]);
      assert.deepEqual(answers, ['fallback', 'app', '404']);
      await Promise.all([joined.remove(), withoutRole.remove()]);
    });

    test('a container without a role gets 404', async () => {
      const withoutRole = await startIdle('host-no-role');
      assert.equal(await status(withoutRole), '404');
      await withoutRole.remove();
    });

    test('a container on a bridge keeps its role', async () => {
      const bridged = await lab.docker.startIdle('bridged', { IAM_ROLE: 'fallback' });
      const withoutRole = await lab.docker.startIdle('bridged-no-role', {});
      const answers = await Promise.all([roleName(bridged), refusal(withoutRole, ROLE_NAMES), roleName(app)]);
      assert.deepEqual(answers, ['fallback', '404', 'app']);
      await Promise.all([bridged.remove(), withoutRole.remove()]);
    });

    test('two containers and the host process get their own roles one after another from the same source port', async () => {
      for (let round = 0; round < 5; round += 1) {
        const first = await startIdle(`first-${round}`, { IAM_ROLE: 'app' });
        assert.equal(await first.exec(...fromPort(FIXED_PORT)), '200\napp');
        await first.remove();
        const second = await startIdle(`second-${round}`, { IAM_ROLE: 'worker' });
        assert.equal(await second.exec(...fromPort(FIXED_PORT)), '200\nworker');
        await second.remove();
        assert.match((await asHostUser(...fromPort(FIXED_PORT))).stdout, /^404/);
      }
    });

    test('the open connection of a killed container gets no other container\'s credentials', async () => {
      const mark = lab.proxy.log.length;
      for (let round = 0; round < 10; round += 1) {
        const brief = await startIdle(`brief-${round}`, { IAM_ROLE: 'worker' });
        // The process has ended before the proxy can look up the connection.
        const command = `printf '${REQUEST}' | timeout -s KILL 0.0${round % 5}1 nc ${IMDS_ADDRESS} 80`;
        await brief.tryExec('/bin/sh', '-c', command);
        await brief.remove();
        assert.equal(await roleName(app), 'app');
      }
      const served = lab.proxy.log.slice(mark).filter(({ msg }) => msg === 'credentials served');
      assert.deepEqual(served.filter(({ container }) => !/^(brief-|host-app)/.test(String(container))), []);
    });

    test('a privileged container that names a control group after another container keeps its own role', async () => {
      // The part of --privileged that this test needs, because the lab may lack the rest.
      const id = await lab.docker.docker('run', '--detach', '--network', 'host', '--cgroupns', 'host',
        '--cap-add', 'SYS_ADMIN', '--security-opt', 'seccomp=unconfined', '--volume', '/sys/fs/cgroup:/cgroups', '--name', 'poser',
        '--env', 'IAM_ROLE=fallback', BUSYBOX, '/bin/sh', '-c', 'sleep 3600');
      const moved = await lab.docker.docker('exec', id, '/bin/sh', '-c', `
        moved=0
        for hierarchy in /cgroups /cgroups/*; do
          for parent in $(find $hierarchy -type d -name '*$ID*'); do
            group=$parent/docker-${worker.id}.scope
            mkdir -p $group && echo $$ >$group/cgroup.procs && moved=$((moved + 1))
          done
        done 2>/dev/null
        echo $moved $(grep -c ${worker.id} /proc/self/cgroup)
        ${get(ROLE_NAMES).join(' ')}`.replace('$ID', id));
      const [groups = '', role] = moved.split('\n');
      assert.match(groups, /^[1-9]\d* [1-9]/, 'the process moved');
      assert.equal(role, 'fallback');
      await lab.docker.docker('rm', '--force', id);
    });

    test('a host process in a control group named after a container gets 503', async () => {
      const mark = lab.proxy.log.length;
      const script = `
        for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
          [ -e $hierarchy/cgroup.procs ] || continue
          group=$hierarchy/${basename(dirname(lab.docker.socket))}/delegated/docker-${worker.id}.scope
          mkdir -p $group 2>/dev/null && echo $$ 2>/dev/null >$group/cgroup.procs
        done
        grep -c docker-${worker.id}.scope /proc/self/cgroup
        exec setpriv --reuid=${HOST_USER} --regid=${HOST_USER} --clear-groups "$@"`;
      const output = await lab.host.run(['/bin/sh', '-c', script, 'sh', ...curl(ROLE_NAMES)]);
      const [groups, status] = output.split('\n');
      assert.notEqual(groups, '0', 'the process moved');
      assert.match(status ?? '', /503/);
      await lab.proxy.logged(({ error }) => /its container's first process is not in that group/.test(String(error)), 'the reason', mark);
    });

    test('a connection whose source port was translated gets no credentials', async (t) => {
      // After the redirect two connections from one port would be identical, so the kernel changes one port.
      const { stdout } = await asHostUser(process.execPath, '-e', CLASH);
      t.diagnostic(stdout.trim());
      const [redirected, direct] = JSON.parse(stdout) as string[];
      assert.match(redirected ?? '', /^HTTP\/1\.1 (404|503)/);
      assert.match(direct ?? '', /^(HTTP\/1\.1 503|E)/);
    });
  });

  test('a container without a role gets DEFAULT_ROLE, a host process does not', async () => {
    await startProxy({ DEFAULT_ROLE: 'fallback' });
    const withoutRole = await startIdle('host-default');
    assert.deepEqual([await roleName(withoutRole), await askAsHost(ROLE_NAMES)], ['fallback', '404']);
    await withoutRole.remove();
  });

  test('with HOST_ROLE a host process gets that role, and containers get their own', async () => {
    // On an IPv6 listener the addresses are IPv4-mapped.
    await startProxy({ HOST_ROLE: 'host-role', HOST: '::' });
    const [app, withoutRole] = await Promise.all([startIdle('own-role', { IAM_ROLE: 'app' }), startIdle('no-role')]);
    for (let round = 0; round < 10; round += 1) {
      const answers = await Promise.all([askAsHost(ROLE_NAMES), roleName(app), status(withoutRole)]);
      assert.deepEqual(answers, ['host-role', 'app', '404']);
    }
    const names = await asHostUser(...curl(`${ROLE_NAMES}host-role`));
    assert.match(names.stdout, /^200\n[^]*"Success"/);
    await Promise.all([app.remove(), withoutRole.remove()]);
  });

  test('a process in another PID namespace is not a host process, whatever its control groups', async () => {
    const namespaced = await lab.host.run(['unshare', '--pid', '--fork', 'setpriv', `--reuid=${HOST_USER}`,
      `--regid=${HOST_USER}`, '--clear-groups', ...curl(ROLE_NAMES)]);
    assert.match(namespaced, /^404/);
  });

  test('HOST_NETWORK=true answers 503 to root, which --host-network does not redirect', async () => {
    await startProxy({ HOST_NETWORK: 'true', HOST_ROLE: 'host-role' });
    const app = await startIdle('as-root', { IAM_ROLE: 'app' });
    assert.equal(await status(app), '503');
    const asUser = await lab.docker.docker('exec', '--user', '1000', app.id, ...get(ROLE_NAMES));
    assert.deepEqual([asUser, await askAsHost(ROLE_NAMES)], ['app', 'host-role']);
    await app.remove();
  });

  test('a proxy without the rights to inspect processes logs it once and answers 503 to host addresses', async () => {
    await startProxy({ HOST_ROLE: 'host-role', DEFAULT_ROLE: 'fallback' }, '-all');
    const [app, bridged] = await Promise.all([
      startIdle('unseen', { IAM_ROLE: 'app' }), lab.docker.startIdle('seen', { IAM_ROLE: 'worker' }),
    ]);
    for (let round = 0; round < 3; round += 1) {
      const answers = await Promise.all([status(app), askAsHost(ROLE_NAMES), roleName(bridged)]);
      assert.deepEqual(answers, ['503', '503', 'worker']);
    }
    assert.equal(await askAsHost(`${METADATA}/instance-id`), INSTANCE_ID);
    const errors = lab.proxy.log.filter(({ level }) => level === 'error').map(({ error }) => String(error))
      .filter((error) => error.includes('CAP_SYS_PTRACE'));
    assert.equal(errors.length, 1);
    await Promise.all([app.remove(), bridged.remove()]);
  });

  test('CPU cost per connection with 500 more host processes with 20 open files each', async (t) => {
    await startProxy({});
    const app = await startIdle('measured', { IAM_ROLE: 'app' });
    const bridged = await lab.docker.startIdle('compared', { IAM_ROLE: 'worker' }, { hostPrograms: true });
    await measure(t, 'few processes, host network', app);
    const crowd = await lab.host.spawnInside(['/bin/bash', '-c', `
      for file in {10..26}; do eval "exec $file</dev/null"; done
      for n in {1..500}; do sleep 600 & done
      echo there
      read -r _
      kill $(jobs -p)`], { stdio: ['pipe', 'pipe', 'inherit'] });
    await new Promise((there) => crowd.stdout?.once('data', there));
    await measure(t, '500 more processes, host network', app);
    await measure(t, '500 more processes, bridge', bridged);
    await Promise.all([app.remove(), bridged.remove()]);
    crowd.stdin?.end();
  });

  /** Sends requests on new connections, first sequentially, then concurrently. */
  async function measure(t: TestContext, what: string, container: Container): Promise<void> {
    const before = await cpuSeconds();
    const sequential = await container.exec('/usr/bin/bash', '-c', `for n in {1..20}; do ${TIMED}; sleep 0.3; done`);
    const cpu = ((await cpuSeconds()) - before) / 20;
    const concurrent = await container.exec('/usr/bin/bash', '-c', `for n in {1..50}; do ${TIMED} & done; wait`);
    const show = (text: string): string => {
      const times = text.split('\n').map((line) => line.split(' ')).filter(([status]) => status === '200');
      const sorted = times.map(([, seconds]) => Number(seconds) * 1000).sort((a, b) => a - b);
      const middle = sorted[Math.floor(sorted.length / 2)] ?? NaN;
      return `${sorted.length} answers, median ${middle.toFixed(1)} ms, max ${sorted.at(-1)?.toFixed(1)} ms`;
    };
    const each = `${(cpu * 1000).toFixed(1)} ms of CPU each`;
    t.diagnostic(`${what}: sequential ${show(sequential)}, ${each}; 50 concurrent ${show(concurrent)}`);
    assert.match(show(sequential), /^20 answers/);
    assert.match(show(concurrent), /^50 answers/);
  }

  async function cpuSeconds(): Promise<number> {
    const stat = await lab.host.run(['/bin/sh', '-c', `cat /proc/$(pgrep -u ${PROXY_USER} -x node | head -n 1)/stat`]);
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }
}

const FIXED_PORT = 40_404;
const TTL = 'X-aws-ec2-metadata-token-ttl-seconds: 60';
const REQUEST = 'GET /latest/meta-data/iam/security-credentials/ HTTP/1.0\\r\\n\\r\\n';
const TIMED = `curl -s --max-time 10 -o /dev/null -w '%{http_code} %{time_total}\\n' ${ROLE_NAMES}`;

/** Prints the status, and on the next line the body. */
function curl(url: string, ...more: string[]): string[] {
  const script = `body=$(curl -s --noproxy '*' --max-time 5 -w '|%{http_code}' "$@")
    echo "\${body##*|}"; echo "\${body%|*}"`;
  return ['/bin/sh', '-c', script, 'sh', ...more, url];
}

/** The status of a container's role request; the container needs the host's programs. */
async function status(container: Container): Promise<string> {
  return (await container.exec(...curl(ROLE_NAMES))).split('\n')[0] ?? '';
}

/** Like `curl` for the role's name, but from a fixed source port, which is free immediately afterwards. */
function fromPort(port: number): string[] {
  return ['/usr/bin/python3', '-c', `
import socket, struct
one = socket.socket()
one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
one.settimeout(5)
one.bind(('', ${port}))
one.connect(('${IMDS_ADDRESS}', 80))
one.sendall(b'GET ${new URL(ROLE_NAMES).pathname} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
head, _, body = one.recv(65536).decode().partition('\\r\\n\\r\\n')
print(head.split()[1], body, sep='\\n')
one.close()
`];
}

/** Connects from one source port to the IMDS address and to the proxy directly, and prints both status lines. */
const CLASH = `
const net = require('node:net');
const ask = (host, port) => new Promise((resolve) => {
  const socket = net.connect({ host, port, localAddress: '${LOCAL_IPV4}', localPort: 41414 });
  socket.once('error', (error) => resolve(error.code));
  socket.setTimeout(4000, () => { resolve('ETIMEDOUT'); socket.destroy(); });
  socket.once('data', (data) => resolve(String(data).split('\\r\\n')[0]));
  socket.write('GET /latest/meta-data/iam/security-credentials/ HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n');
});
(async () => {
  const one = await ask('${IMDS_ADDRESS}', 80);
  const other = await ask('127.0.0.1', ${PROXY_PORT});
  console.log(JSON.stringify([one, other]));
  process.exit();
})();
`;
