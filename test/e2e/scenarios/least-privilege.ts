import { strict as assert } from 'node:assert';
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { METADATA, ask, callerIdentity, credentials, get, roleName } from '../metadata-requests.ts';
import { INSTANCE_ID } from '../host-identity.ts';
import { ACCOUNT, type Lab } from '../lab.ts';
import { ADMIN_PORT, PROXY_PORT } from '../ports.ts';
import { STATIC_KEYS } from '../proxy.ts';

/** A user ID and group ID that no other process uses and that is not in /etc/passwd. */
const USER = 64_018;

/** The host's addresses that a container can reach: its gateway, and the host's address on another network. */
const HOST_ADDRESSES = ['172.17.0.1', '169.254.169.1'];

/** The proxy as a separate user whose only right is access to Docker's socket. */
export function leastPrivilege(lab: Lab): void {
  describe('as a separate user with only the docker group', () => {
    let pid = 0;
    let dockerGroup = 0;

    before(async () => {
      const directory = dirname(lab.docker.socket);
      dockerGroup = (await stat(lab.docker.socket)).gid;
      assert.notEqual(dockerGroup, 0, 'the daemon gives its socket to the group docker');
      // As for /run/docker.sock, only the socket is protected, not its directory.
      await chmod(directory, 0o711);
      // The program's shebang finds this `node`, which first drops every privilege.
      const programs = join(directory, 'programs');
      const pidFile = join(directory, 'proxy.pid');
      await writeFile(join(programs, 'node'), `#!/bin/sh
echo $$ >${pidFile}
exec ${as(dockerGroup).join(' ')} --pdeathsig KILL ${process.execPath} "$@"
`, { mode: 0o755 });
      // The home of a system user, as systemd sets it.
      const HOME = '/nonexistent';
      await lab.startProxy({ ...STATIC_KEYS, HOME, PATH: `${programs}:${process.env['PATH']}` });
      pid = Number(await readFile(pidFile, 'utf8'));
    });

    after(async () => void await lab.startProxy());

    test('it has no other group and no capability', async () => {
      const status = await readFile(`/proc/${pid}/status`, 'utf8');
      const field = (name: string): string =>
        new RegExp(`^${name}:\\s*(.*?)\\s*$`, 'm').exec(status)?.[1] ?? '';
      const ids = Array(4).fill(USER).join('\t');
      assert.match(await readFile(`/proc/${pid}/cmdline`, 'utf8'), /node\0[^\0]*bin\/metadataproxy\0/);
      assert.deepEqual(
        ['Uid', 'Gid', 'Groups', 'CapEff', 'CapPrm', 'CapBnd', 'NoNewPrivs'].map(field),
        [ids, ids, String(dockerGroup), NO_CAPABILITY, NO_CAPABILITY, NO_CAPABILITY, '1'],
      );
    });

    test('that group gives it access to Docker\'s socket', async () => {
      const ping = ['curl', '--silent', '--show-error', '--unix-socket', lab.docker.socket,
        'http://docker/_ping'];
      assert.equal(await lab.host.run([...as(dockerGroup), ...ping]), 'OK');
      await assert.rejects(lab.host.run([...as(USER), ...ping]), /connect/i);
    });

    test('a container gets its role, the AWS CLI its identity, and other metadata passes through', async () => {
      const container = await lab.docker.startIdle('humble', { IAM_ROLE: 'worker' });
      assert.equal(await roleName(container), 'worker');
      assert.match((await credentials(container)).RoleArn, /:role\/worker$/);
      assert.equal(await ask(container, `${METADATA}/instance-id`), INSTANCE_ID);
      await container.remove();
      const caller = await callerIdentity(lab, { name: 'humble-cli', env: { IAM_ROLE: 'app' } });
      assert.equal(caller.arn, caller.sessionOf('app', ACCOUNT));
    });

    test('it reconnects to Docker after the daemon has recreated its socket', async () => {
      const mark = lab.proxy.log.length;
      await lab.docker.stop();
      await lab.docker.start();
      await lab.proxy.knowsContainers(mark);
      const container = await lab.docker.startIdle('later', { IAM_ROLE: 'app' });
      assert.equal(await roleName(container), 'app');
      await container.remove();
    });

    test('a container can reach the containers\' listener on the host, but not the operator\'s', async () => {
      const health = `http://127.0.0.1:${ADMIN_PORT}/healthz`;
      assert.match(await lab.host.run(['curl', '--silent', '--fail', health]), /alive/, 'the host can reach it');
      const container = await lab.docker.startIdle('curious', { IAM_ROLE: 'app' });
      for (const address of HOST_ADDRESSES) {
        // The route works, so the refusals below come from no firewall.
        await ask(container, `http://${address}:${PROXY_PORT}/healthcheck`);
        for (const path of ['/healthz', '/readyz', '/status']) {
          const url = `http://${address}:${ADMIN_PORT}${path}`;
          const { status, stdout, stderr } = await container.tryExec(...get(url));
          assert.notEqual(status, 0, `${address} answered ${path}: ${stdout}`);
          assert.match(stderr, /Connection refused/, `${address}${path}`);
        }
      }
      await container.remove();
    });
  });
}

const NO_CAPABILITY = '0'.repeat(16);

/** A command prefix that runs a command as the user with the additional `group` and without any privilege. */
function as(group: number): string[] {
  return ['setpriv', `--reuid=${USER}`, `--regid=${USER}`, `--groups=${group}`, '--inh-caps=-all',
    '--bounding-set=-all', '--no-new-privs'];
}
