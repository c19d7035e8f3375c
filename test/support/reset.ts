import type { Socket } from 'node:net';

/**
 * Ends a connection by a reset, or plainly if its end is under way already: libuv resets no socket that is being shut
 * down (uv_tcp_close_reset: EINVAL), and Node 20 then takes its handle for closed, never closes it, and spins at the
 * process's exit while it waits for that.
 */
export function reset(socket: Socket): void {
  if (socket.writable) socket.resetAndDestroy();
  else socket.destroy();
}
