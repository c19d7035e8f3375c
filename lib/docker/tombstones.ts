/**
 * What was removed while a lookup was in flight. The engine's answer may be older than an event that arrived before it,
 * so a lookup opens tombstones before its call, and afterwards brings nothing back that they name.
 */

/** Called before the registry removes something. */
export interface RemovalListener {
  containerRemoved(id: string): void;
  endpointRemoved(id: string, network: string): void;
  /** A list of all containers replaces what is known: answers to older lookups are stale. */
  allReplaced(): void;
}

export class Tombstones implements RemovalListener {
  readonly #removed = new Set<string>();
  #isStale = false;

  containerRemoved(id: string): void {
    this.#removed.add(id);
  }

  endpointRemoved(id: string, network: string): void {
    this.#removed.add(endpoint(id, network));
  }

  allReplaced(): void {
    this.#isStale = true;
  }

  hasContainer(id: string): boolean {
    return this.#isStale || this.#removed.has(id);
  }

  /** Whether the container has left the network, or has gone. */
  hasEndpoint(id: string, network: string): boolean {
    return this.hasContainer(id) || this.#removed.has(endpoint(id, network));
  }
}

function endpoint(id: string, network: string): string {
  return `${id} ${network}`;
}
