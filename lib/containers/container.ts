import type { EngineContainer } from './docker.ts';

/** What is kept of a container: who it is, and what its starter asked for it. */
export interface Container {
  readonly id: string;
  /** As `docker ps` shows it; changes with `docker rename`. */
  name: string;
  readonly image: string;
  /** Only the variables that settings refer to. */
  readonly env: ReadonlyMap<string, string>;
  /** Whether it has addresses of its own, or whose it shares. */
  readonly network: 'own' | 'host' | 'none' | { readonly sharedWith: string };
}

/** Thrown when no container is known under an address. */
export class UnknownCaller extends Error {}

/** Thrown while it cannot be told which container an address belongs to. */
export class DirectoryUnavailable extends Error {}

/** The 12 characters that Docker's own tools show. */
export function shortId({ id }: Pick<Container, 'id'>): string {
  return id.slice(0, 12);
}

/**
 * @param variables the names of the environment variables to keep; a host may run thousands of containers
 */
export function describeContainer(found: EngineContainer, variables: ReadonlySet<string>): Container {
  const env = new Map<string, string>();
  for (const entry of found.env) {
    const equals = entry.indexOf('=');
    const name = entry.slice(0, equals);
    if (equals !== -1 && variables.has(name)) env.set(name, entry.slice(equals + 1));
  }
  return { id: found.id, name: found.name, image: found.image, env, network: networkOf(found.networkMode) };
}

function networkOf(mode: string): Container['network'] {
  if (mode === 'host' || mode === 'none') return mode;
  return mode.startsWith('container:') ? { sharedWith: mode.slice('container:'.length) } : 'own';
}
