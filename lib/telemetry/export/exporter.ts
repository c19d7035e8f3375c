/** Tells an operator's system of the metrics, in its own way and time. */
export interface Exporter {
  /** Sends what is left, if that can be done within a second, and stops. */
  close(): Promise<void>;
}
