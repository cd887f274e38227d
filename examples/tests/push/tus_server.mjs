// A server of tus (npm: @tus/server, @tus/file-store) for the lane of `.ci/tus`: says its port, and keeps
// its files in the folder that is its argument.
import http from 'node:http'
import { createRequire } from 'node:module'

const require = createRequire(process.env.RINGWAY_TUS_PACKAGES + '/')
const { Server } = require('@tus/server')
const { FileStore } = require('@tus/file-store')

const tus = new Server({ path: '/files', datastore: new FileStore({ directory: process.argv[2] }) })
const server = http.createServer((request, response) => tus.handle(request, response))
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
