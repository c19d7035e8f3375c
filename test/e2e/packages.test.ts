// The packages: what is made, and what becomes of it on a whole host with systemd and Docker.
import { describe } from 'node:test';
import { debian } from './packages/debian.ts';
import { products } from './packages/products.ts';
import { rpm } from './packages/rpm.ts';

// A boot that hangs must not hold up the run for ever.
const TEN_MINUTES = 600_000;

describe('packages', { timeout: TEN_MINUTES }, () => {
  describe('as they are made', products);
  describe('on Debian', debian);
  describe('by rpm', rpm);
});
