/** What the build made and compressed. */
declare module '*.gz' {
  const bytes: Uint8Array;
  export default bytes;
}
