/** A TCP connection from a caller; one object for as long as it lasts. */
export interface Connection {
  /** The peer's, in its normal form. */
  readonly address: string;
  /** Undefined once the connection has ended, as on Node's sockets. */
  readonly remotePort: number | undefined;
  readonly localAddress: string | undefined;
  readonly localPort: number | undefined;
}
