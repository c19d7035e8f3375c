import { strict as assert } from 'node:assert';
import { describe, test } from 'node:test';
import { METADATA, ROLE_NAMES, ask, roleName } from '../metadata-requests.ts';
import { HOST_MARK, HOST_ROLE, INSTANCE_ID } from '../host-identity.ts';
import { IMDS_ADDRESS, type Lab } from '../lab.ts';
import { ODD_REQUESTS, ODD_TARGETS, requestFor } from '../odd-paths.ts';
import type { RawRequestsCalls } from '../programs/raw-requests.ts';

/** Milliseconds without a byte after which an answer on a keep-alive connection counts as complete. */
const QUIET_MS = 500;

/** The host's credentials must not reach a container, whatever it requests. */
export function closed(lab: Lab): void {
  for (const [who, env] of [['with a role', { IAM_ROLE: 'app' }], ['without a role', {}]] as const) {
    test(`no odd request of a container ${who} gets a byte of the host's credentials`, async (t) => {
      const container = await lab.docker.startIdle('odd', env);
      const network = await container.networkNamespace();
      const program = await lab.startProgram<RawRequestsCalls>('raw-requests', network);
      const requests = [...ODD_TARGETS.map(requestFor), ...ODD_REQUESTS];
      const send = (): Promise<string[]> => program.call('exchange', IMDS_ADDRESS, 80, requests, QUIET_MS);
      try {
        // Proves that the list is dangerous: without the proxy the same requests get the host's credentials.
        await lab.stopRedirecting();
        const unproxied = await send().finally(() => lab.redirect());
        const leaks = unproxied.filter((answer) => answer.includes(HOST_MARK)).length;
        assert.ok(leaks >= 60, `only ${leaks} of the requests get the host's credentials without the proxy`);

        await lab.imds.call('takeRequests');
        const answers = await send();
        const forwarded = await lab.imds.call('takeRequests');
        const leaked = requests.filter((_, n) => answers[n]?.includes(HOST_MARK) === true);
        const unanswered = requests.filter((_, n) => answers[n]?.startsWith('HTTP/1.1 ') !== true);
        t.diagnostic(`${requests.length} requests: ${leaks} get the host's credentials without the proxy, ` +
          `${leaked.length} through it; it forwarded ${forwarded.length}`);
        assert.deepEqual(leaked, []);
        assert.deepEqual(forwarded.filter((request) => request.readsAsHostIdentity), [], 'none is forwarded');
        assert.deepEqual(unanswered, [], 'the proxy answers each of them');
      } finally {
        program.end();
        await container.remove();
      }
    });
  }

  describe('without the proxy\'s firewall rules', () => {
    test('a container gets the host\'s credentials, so the tests above prove something', async () => {
      const container = await lab.docker.startIdle('open', { IAM_ROLE: 'app' });
      await lab.stopRedirecting();
      try {
        assert.equal(await ask(container, ROLE_NAMES), HOST_ROLE);
      } finally {
        await lab.redirect();
      }
      assert.equal(await roleName(container), 'app');
      assert.equal(await ask(container, `${METADATA}/instance-id`), INSTANCE_ID);
      await container.remove();
    });
  });
}
