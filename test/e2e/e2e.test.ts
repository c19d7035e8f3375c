// The proxy on a real Docker Engine. lab.ts describes its surroundings.
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import { HOST_SECRETS } from './host-identity.ts';
import { Lab } from './lab.ts';
import { closed } from './scenarios/closed.ts';
import { crowds } from './scenarios/crowds.ts';
import { identity } from './scenarios/identity.ts';
import { networks } from './scenarios/networks.ts';
import { podman } from './scenarios/podman.ts';
import { restarts } from './scenarios/restarts.ts';
import { upstream } from './scenarios/upstream.ts';

const lab = await Lab.create();
await lab.makeRoles('app', 'worker', 'fallback');
await lab.startProxy();

// A hanging daemon must not block the run for ever.
const TEN_MINUTES = 600_000;

describe('on a real Docker host', { timeout: TEN_MINUTES }, () => {
  after(() => lab.remove());

  describe('identity', () => identity(lab));
  describe('networks', () => networks(lab));
  describe('podman', () => podman(lab));
  describe('restarts', () => restarts(lab));
  describe('upstream', () => upstream(lab));
  describe('closed', () => closed(lab));
  describe('crowds', () => crowds(lab));

  test('the debug log of all scenarios contains no secret', async (t) => {
    const log = lab.proxyLog();
    const assumed = await lab.sts.call('assumedRoles');
    const secrets = assumed.flatMap((role) => [role.secretAccessKey, role.sessionToken]);
    t.diagnostic(`${log.length} bytes of log, ${secrets.length} secrets of ${assumed.length} assumed roles`);
    assert.ok(assumed.length > 0 && assumed.some((role) => log.includes(role.roleArn)));
    assert.deepEqual([...secrets, ...HOST_SECRETS].filter((secret) => log.includes(secret)), []);
  });
});
