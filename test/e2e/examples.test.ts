// What READMEs tell people to type, on a real Docker Engine: the four older programs', and our own for IPv6.
import { after, describe } from 'node:test';
import { Lab } from './lab.ts';
import { ipv6 } from './scenarios/ipv6.ts';
import { olderReadmes } from './scenarios/older-readmes.ts';

const lab = await Lab.create();
await lab.makeRoles('app', 'worker');

// A daemon that hangs must not hold up the run for ever.
const TEN_MINUTES = 600_000;

describe('as READMEs have it, on a real Docker host', { timeout: TEN_MINUTES }, () => {
  after(() => lab.remove());

  // In this order: the older programs' lines take the ports of a proxy that runs.
  describe('older READMEs', () => olderReadmes(lab));
  describe('IPv6', () => ipv6(lab));
});
