// Reads a chain as programs for CometBFT do: `node read.mjs RPC HEIGHT` prints what its client understood, as JSON.
import { Comet38Client } from "@cosmjs/tendermint-rpc";

const [url, height] = process.argv.slice(2);
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const client = await Comet38Client.connect(url);
const status = await client.status();
const { blockId, block } = await client.block(Number(height));
const { header, commit } = await client.commit(Number(height));
const { validators } = await client.validatorsAll(Number(height));
client.disconnect();

console.log(
  JSON.stringify({
    network: status.nodeInfo.network,
    moniker: status.nodeInfo.moniker,
    catchingUp: status.syncInfo.catchingUp,
    latestHeight: status.syncInfo.latestBlockHeight,
    chainId: header.chainId,
    height: header.height,
    time: [header.time.getTime(), header.time.nanoseconds],
    hash: hex(blockId.hash),
    signed: hex(commit.blockId.hash),
    signatures: commit.signatures.length,
    appHash: hex(header.appHash),
    dataHash: hex(header.dataHash),
    validatorsHash: hex(header.validatorsHash),
    bundles: block.txs.map(hex),
    validators: validators.map(({ pubkey, votingPower }) => [hex(pubkey.data), Number(votingPower)]),
  }),
);
