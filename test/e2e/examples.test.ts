// The commands of READMEs on a real Docker Engine: those of the four older programs, and our own for IPv6.
import { after, describe } from 'node:test';
import { Lab } from './lab.ts';
import { ipv6 } from './scenarios/ipv6.ts';
import { olderReadmes } from './scenarios/older-readmes.ts';

const lab = await Lab.create();
await lab.makeRoles('app', 'worker');

// A hanging daemon must not block the run for ever.
const TEN_MINUTES = 600_000;

describe('commands from READMEs, on a real Docker host', { timeout: TEN_MINUTES }, () => {
  after(() => lab.remove());

  // In this order, because the older programs' commands use the ports of a running proxy.
  describe('older READMEs', () => olderReadmes(lab));
  describe('IPv6', () => ipv6(lab));
});
