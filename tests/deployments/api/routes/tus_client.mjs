// Uploads a file with tus-js-client: node tus_client.mjs URL FILE STORE [STOP].
// Remembers the upload in STORE and continues one that it finds there. Dies when STOP bytes have arrived.
// Prints {url, offsets}: the address of the upload, and the offsets at which it continued after a lost connection.

import { createReadStream } from "node:fs";
import * as tus from "tus-js-client";

const [endpoint, path, store, stop] = process.argv.slice(2);
const offsets = [];

const upload = new tus.Upload(createReadStream(path), {
  endpoint,
  metadata: { filename: "My talk.mp4", filetype: "video/mp4" },
  retryDelays: [0, 1000, 3000, 5000],
  urlStorage: new tus.FileUrlStorage(store),
  fingerprint: async () => "the-file",
  onAfterResponse: (request, response) => {
    if (request.getMethod() === "HEAD") offsets.push(Number(response.getHeader("Upload-Offset")));
  },
  onProgress: (sent) => {
    if (stop && sent >= Number(stop)) process.kill(process.pid, "SIGKILL");
  },
  onError: (error) => {
    console.error(String(error));
    process.exit(1);
  },
  onSuccess: () => console.log(JSON.stringify({ url: upload.url, offsets })),
});

const [earlier] = await upload.findPreviousUploads();
if (earlier) upload.resumeFromPreviousUpload(earlier);
upload.start();
