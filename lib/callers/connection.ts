/** A TCP connection from a caller. */
export interface Connection {
  /** The peer's address in its normal form. */
  readonly address: string;
  /** Identifies the connection; a Node socket has these properties while it is open. */
  readonly socket: {
    readonly remotePort?: number | undefined;
    readonly localAddress?: string | undefined;
    readonly localPort?: number | undefined;
  };
}
