import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';

/** A server on 127.0.0.1 that a test can stop and start again on the same port. */
export class RestartableServer<S extends Server> {
  readonly #create: () => S;
  readonly #closeConnections: (server: S) => void;
  #server: S | undefined;
  #port = 0;

  /** @param closeConnections ends all connections of a server that is closing */
  constructor(create: () => S, closeConnections: (server: S) => void) {
    this.#create = create;
    this.#closeConnections = closeConnections;
  }

  /** The port, which the first listen() chooses. */
  get port(): number {
    return this.#port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async listen(): Promise<void> {
    if (this.#server !== undefined) return;
    const server = this.#create();
    this.#server = server;
    server.listen(this.#port, '127.0.0.1');
    await once(server, 'listening');
    this.#port = (server.address() as AddressInfo).port;
  }

  /** Ends all connections and refuses new ones. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = once(server, 'close');
    server.close();
    this.#closeConnections(server);
    await closed;
  }
}
