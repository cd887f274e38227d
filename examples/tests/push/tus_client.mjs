// A client of tus (npm: tus-js-client) for the lane of `.ci/tus`: uploads a file in parts to a URL, gives
// up in the middle, and goes on.
import fs from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(process.env.RINGWAY_TUS_PACKAGES + '/')
const tus = require('tus-js-client')
const [, , path, endpoint] = process.argv

const upload = (more) =>
  new Promise((resolve, reject) => {
    const one = new tus.Upload(fs.createReadStream(path), {
      endpoint,
      chunkSize: 1_000_000,
      uploadSize: fs.statSync(path).size,
      metadata: { filename: 'by tus-js-client' },
      onError: reject,
      onSuccess: () => resolve(one.url),
      ...more(() => one, resolve),
    })
    one.start()
  })

const url = await upload((one, resolve) => ({
  onChunkComplete: (_, accepted) => {
    if (accepted >= 3_000_000) one().abort().then(() => resolve(one().url))
  },
}))
await upload(() => ({ uploadUrl: url }))
