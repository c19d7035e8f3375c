/** No proxy tells its status; the message says why and what to do. */
export class NoStatus extends Error {}
