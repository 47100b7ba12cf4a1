/** The face for Node: what needs a file system. */
export { FileSystemDurableRunStore } from "./stores/file-system/store.ts";
