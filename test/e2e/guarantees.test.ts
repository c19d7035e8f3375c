// README's guarantees that need a real Docker Engine: a short form of each, the full one with SOAK=1.
import { after, describe } from 'node:test';
import { Lab } from './lab.ts';
import { churn } from './scenarios/churn.ts';
import { leastPrivilege } from './scenarios/least-privilege.ts';

const lab = await Lab.create();
await lab.makeRoles('app', 'worker');
await lab.startProxy();

// A hanging daemon must not block the run for ever.
const HALF_AN_HOUR = 1_800_000;

describe('guarantees on a real Docker host', { timeout: HALF_AN_HOUR }, () => {
  after(() => lab.remove());

  describe('least privilege', () => leastPrivilege(lab));
  describe('churn', () => churn(lab));
});
