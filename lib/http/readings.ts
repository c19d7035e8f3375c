import { canonicalPath } from './canonical-path.ts';
import { route, type Route } from './router.ts';

/** What a request target means. */
export interface Reading {
  readonly path: string;
  readonly route: Route;
}

/** SDKs ask for a handful of targets; whoever asks for thousands makes this start again. */
const MOST_KEPT = 256;

/** Reads each target once, since the same ones come again and again. */
export class Readings {
  readonly #known = new Map<string, Reading>();

  /** @throws BadTarget */
  of(target: string): Reading {
    let reading = this.#known.get(target);
    if (!reading) {
      const path = canonicalPath(target);
      reading = { path, route: route(path) };
      if (this.#known.size >= MOST_KEPT) this.#known.clear();
      this.#known.set(target, reading);
    }
    return reading;
  }
}
