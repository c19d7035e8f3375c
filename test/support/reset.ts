import type { Socket } from 'node:net';

/**
 * Resets a connection, or just closes it if it is already shutting down. libuv cannot reset a socket that is shutting down
 * (uv_tcp_close_reset: EINVAL); Node 20 then considers the handle closed, never closes it, and spins at the process's
 * exit.
 */
export function reset(socket: Socket): void {
  if (socket.writable) socket.resetAndDestroy();
  else socket.destroy();
}
