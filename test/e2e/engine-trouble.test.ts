// A Docker Engine that is hard to read: behind a relay, and with containers that are larger than anybody's should be.
import { after, describe } from 'node:test';
import { Lab } from './lab.ts';
import { relays } from './scenarios/relays.ts';
import { sizes } from './scenarios/sizes.ts';

const lab = await Lab.create();
await lab.makeRoles('app', 'worker');
await lab.startProxy();

// A daemon that hangs must not hold up the run for ever.
const TEN_MINUTES = 600_000;

describe('trouble with a real Docker Engine', { timeout: TEN_MINUTES }, () => {
  after(() => lab.remove());

  describe('relays', () => relays(lab));
  describe('sizes', () => sizes(lab));
});
