// What README guarantees and only a real Docker Engine can try: a short form of each, the full one with SOAK=1.
import { after, describe } from 'node:test';
import { Lab } from './lab.ts';
import { churn } from './scenarios/churn.ts';
import { leastPrivilege } from './scenarios/least-privilege.ts';

const lab = await Lab.create();
await lab.makeRoles('app', 'worker');
await lab.startProxy();

// A daemon that hangs must not hold up the run for ever.
const HALF_AN_HOUR = 1_800_000;

describe('guaranteed on a real Docker host', { timeout: HALF_AN_HOUR }, () => {
  after(() => lab.remove());

  describe('least privilege', () => leastPrivilege(lab));
  describe('churn', () => churn(lab));
});
