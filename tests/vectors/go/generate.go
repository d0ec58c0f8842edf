package main

import (
	"encoding/json"
	"math/rand"
	"os"
	"path/filepath"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/crypto/merkle"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	cmtversion "github.com/cometbft/cometbft/proto/tendermint/version"
	"github.com/cometbft/cometbft/types"
	"github.com/cometbft/cometbft/version"
)

// validatorsJSON is CometBFT's validator set without what no hash covers: priorities and the next proposer.
func validatorsJSON(set *types.ValidatorSet) json.RawMessage {
	type validator struct {
		Address     types.Address   `json:"address"`
		PubKey      json.RawMessage `json:"pub_key"`
		VotingPower json.RawMessage `json:"voting_power"`
	}
	list := []validator{}
	for _, member := range set.Validators {
		list = append(list, validator{member.Address, comet(member.PubKey), comet(member.VotingPower)})
	}
	data, err := json.Marshal(map[string]any{"validators": list})
	must(err)
	return data
}

type vectors struct {
	Merkle     []merkleVector    `json:"merkle"`
	Headers    []headerVector    `json:"headers"`
	Commits    []commitVector    `json:"commits"`
	Validators []validatorVector `json:"validators"`
	Blocks     []blockVector     `json:"blocks"`
	Results    []resultVector    `json:"results"`
	Params     []paramsVector    `json:"params"`
	Genesis    []genesisVector   `json:"genesis"`
	KeyFiles   []keyVector       `json:"key_files"`
	NodeKeys   []nodeKeyVector   `json:"node_keys"`
}

type merkleVector struct {
	Items [][]byte `json:"items"`
	Root  []byte   `json:"root"`
}

type headerVector struct {
	Header  json.RawMessage `json:"header"`
	Hash    []byte          `json:"hash"`
	Encoded []byte          `json:"encoded"`
}

type commitVector struct {
	ChainID   string          `json:"chain_id"`
	Commit    json.RawMessage `json:"commit"`
	Hash      []byte          `json:"hash"`
	Encoded   []byte          `json:"encoded"`
	SignBytes [][]byte        `json:"sign_bytes"`
}

type validatorVector struct {
	Set   json.RawMessage `json:"set"`
	Hash  []byte          `json:"hash"`
	Total json.RawMessage `json:"total"`
}

type blockVector struct {
	Header     json.RawMessage `json:"header"`
	Txs        [][]byte        `json:"txs"`
	LastCommit json.RawMessage `json:"last_commit"`
	DataHash   []byte          `json:"data_hash"`
	BlockID    json.RawMessage `json:"block_id"`
}

type resultVector struct {
	Data [][]byte `json:"data"`
	Hash []byte   `json:"hash"`
}

type paramsVector struct {
	MaxBytes int64  `json:"max_bytes"`
	MaxGas   int64  `json:"max_gas"`
	Hash     []byte `json:"hash"`
}

type genesisVector struct {
	File           string `json:"file"`
	ValidatorsHash []byte `json:"validators_hash"`
	ParamsHash     []byte `json:"params_hash"`
}

type keyVector struct {
	File      string `json:"file"`
	Message   []byte `json:"message"`
	Signature []byte `json:"signature"`
}

type nodeKeyVector struct {
	File      string `json:"file"`
	ID        p2p.ID `json:"id"`
	Message   []byte `json:"message"`
	Signature []byte `json:"signature"`
}

func generate(random *rand.Rand, count int) vectors {
	all := vectors{}
	for at := 0; at < count; at++ {
		all.Merkle = append(all.Merkle, randomMerkle(random, at))
		all.Headers = append(all.Headers, randomHeaderVector(random))
		all.Commits = append(all.Commits, randomCommitVector(random))
		all.Results = append(all.Results, randomResults(random))
		all.Params = append(all.Params, randomParams(random))
		if at%10 == 0 {
			set, _ := randomValidators(random, 1+random.Intn(20))
			all.Validators = append(all.Validators, validatorVector{validatorsJSON(set), set.Hash(), comet(set.TotalVotingPower())})
			all.Blocks = append(all.Blocks, randomBlock(random))
			all.Genesis = append(all.Genesis, randomGenesis(random))
			all.KeyFiles = append(all.KeyFiles, randomKeyFile(random))
			all.NodeKeys = append(all.NodeKeys, randomNodeKey(random))
		}
	}
	return all
}

func randomBytes(random *rand.Rand, size int) []byte {
	data := make([]byte, size)
	random.Read(data)
	return data
}

// hashOrNone gives 32 bytes, at times none: both are valid in a header.
func hashOrNone(random *rand.Rand) []byte {
	if random.Intn(8) == 0 {
		return nil
	}
	return randomBytes(random, 32)
}

func randomTime(random *rand.Rand) time.Time {
	seconds := random.Int63n(4_000_000_000)
	switch random.Intn(4) {
	case 0:
		return time.Unix(seconds, 0).UTC()
	case 1:
		return time.Unix(seconds, random.Int63n(1000)*1_000_000).UTC()
	case 2:
		return time.Unix(-seconds, random.Int63n(1_000_000_000)).UTC()
	}
	return time.Unix(seconds, random.Int63n(1_000_000_000)).UTC()
}

func randomHeight(random *rand.Rand) int64 {
	return 1 + random.Int63()>>uint(random.Intn(63))
}

func randomChainID(random *rand.Rand) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
	data := []byte{'a'}
	for len(data) < 1+random.Intn(types.MaxChainIDLen) {
		data = append(data, letters[random.Intn(len(letters))])
	}
	return string(data)
}

func randomBlockID(random *rand.Rand) types.BlockID {
	parts := types.PartSetHeader{Total: random.Uint32() >> uint(random.Intn(32)), Hash: randomBytes(random, 32)}
	return types.BlockID{Hash: randomBytes(random, 32), PartSetHeader: parts}
}

func randomHeader(random *rand.Rand) types.Header {
	header := types.Header{
		Version:            cmtversion.Consensus{Block: version.BlockProtocol, App: uint64(random.Intn(3))},
		ChainID:            randomChainID(random),
		Height:             randomHeight(random),
		Time:               randomTime(random),
		LastBlockID:        randomBlockID(random),
		LastCommitHash:     hashOrNone(random),
		DataHash:           hashOrNone(random),
		ValidatorsHash:     randomBytes(random, 32),
		NextValidatorsHash: randomBytes(random, 32),
		ConsensusHash:      randomBytes(random, 32),
		AppHash:            randomBytes(random, random.Intn(40)),
		LastResultsHash:    hashOrNone(random),
		EvidenceHash:       hashOrNone(random),
		ProposerAddress:    randomBytes(random, 20),
	}
	if random.Intn(5) == 0 {
		header.LastBlockID = types.BlockID{}
	}
	return header
}

func randomHeaderVector(random *rand.Rand) headerVector {
	header := randomHeader(random)
	encoded, err := header.ToProto().Marshal()
	must(err)
	return headerVector{comet(header), header.Hash(), encoded}
}

func randomCommit(random *rand.Rand, size int) *types.Commit {
	commit := &types.Commit{Height: randomHeight(random), Round: int32(random.Intn(3)), BlockID: randomBlockID(random)}
	for at := 0; at < size; at++ {
		flag := types.BlockIDFlag(1 + random.Intn(3))
		if flag == types.BlockIDFlagAbsent {
			commit.Signatures = append(commit.Signatures, types.NewCommitSigAbsent())
			continue
		}
		commit.Signatures = append(commit.Signatures, types.CommitSig{
			BlockIDFlag:      flag,
			ValidatorAddress: randomBytes(random, 20),
			Timestamp:        randomTime(random),
			Signature:        randomBytes(random, 64),
		})
	}
	return commit
}

func randomCommitVector(random *rand.Rand) commitVector {
	commit := randomCommit(random, 1+random.Intn(7))
	vector := commitVector{ChainID: randomChainID(random), Commit: comet(commit), Hash: commit.Hash()}
	var err error
	vector.Encoded, err = commit.ToProto().Marshal()
	must(err)
	for at, signature := range commit.Signatures {
		if signature.BlockIDFlag == types.BlockIDFlagAbsent {
			vector.SignBytes = append(vector.SignBytes, nil)
			continue
		}
		vector.SignBytes = append(vector.SignBytes, commit.VoteSignBytes(vector.ChainID, int32(at)))
	}
	return vector
}

func randomMerkle(random *rand.Rand, size int) merkleVector {
	items := make([][]byte, size)
	for at := range items {
		items[at] = randomBytes(random, random.Intn(50))
	}
	return merkleVector{items, merkle.HashFromByteSlices(items)}
}

func randomValidators(random *rand.Rand, size int) (*types.ValidatorSet, map[string]ed25519.PrivKey) {
	keys := map[string]ed25519.PrivKey{}
	list := []*types.Validator{}
	for at := 0; at < size; at++ {
		key := ed25519.GenPrivKeyFromSecret(randomBytes(random, 32))
		// Few distinct powers, so that ties fall to the address.
		list = append(list, types.NewValidator(key.PubKey(), 1+random.Int63n(5)))
		keys[key.PubKey().Address().String()] = key
	}
	return types.NewValidatorSet(list), keys
}

func randomBlock(random *rand.Rand) blockVector {
	txs := []types.Tx{}
	for count := random.Intn(8); count > 0; count-- {
		txs = append(txs, randomBytes(random, random.Intn(60_000)))
	}
	lastCommit := &types.Commit{}
	if random.Intn(3) > 0 {
		lastCommit = randomCommit(random, 1+random.Intn(5))
	}
	block := types.MakeBlock(randomHeight(random), txs, lastCommit, nil)
	filled := randomHeader(random)
	filled.Height = block.Height
	filled.LastCommitHash, filled.DataHash, filled.EvidenceHash = block.LastCommitHash, block.DataHash, block.EvidenceHash
	block.Header = filled
	parts, err := block.MakePartSet(types.BlockPartSizeBytes)
	must(err)
	blockID := types.BlockID{Hash: block.Hash(), PartSetHeader: parts.Header()}
	raw := [][]byte{}
	for _, tx := range txs {
		raw = append(raw, tx)
	}
	return blockVector{comet(block.Header), raw, comet(lastCommit), block.Data.Hash(), comet(blockID)}
}

func randomResults(random *rand.Rand) resultVector {
	vector := resultVector{Data: [][]byte{}}
	results := []*abci.ExecTxResult{}
	for count := random.Intn(5); count > 0; count-- {
		data := randomBytes(random, 32)
		vector.Data = append(vector.Data, data)
		results = append(results, &abci.ExecTxResult{Data: data, Log: "not hashed"})
	}
	vector.Hash = types.NewResults(results).Hash()
	return vector
}

func randomParams(random *rand.Rand) paramsVector {
	params := types.DefaultConsensusParams()
	params.Block.MaxBytes = 1 + random.Int63n(types.MaxBlockSizeBytes)
	params.Block.MaxGas = random.Int63n(3) - 1
	return paramsVector{params.Block.MaxBytes, params.Block.MaxGas, params.Hash()}
}

func randomGenesis(random *rand.Rand) genesisVector {
	document := types.GenesisDoc{
		GenesisTime:     time.Unix(random.Int63n(4_000_000_000), random.Int63n(1_000_000_000)).UTC(),
		ChainID:         randomChainID(random),
		InitialHeight:   1 + random.Int63n(1_000_000),
		ConsensusParams: types.DefaultConsensusParams(),
		AppState:        json.RawMessage(`{"members":[{"id":"bank-a","legal_name":"示例银行"}],"scale":2}`),
	}
	for count := 1 + random.Intn(4); count > 0; count-- {
		key := ed25519.GenPrivKeyFromSecret(randomBytes(random, 32)).PubKey()
		document.Validators = append(document.Validators, types.GenesisValidator{
			Address: key.Address(), PubKey: key, Power: 1 + random.Int63n(9), Name: "node",
		})
	}
	must(document.ValidateAndComplete())
	folder, err := os.MkdirTemp("", "vectors")
	must(err)
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "genesis.json")
	must(document.SaveAs(path))
	file, err := os.ReadFile(path)
	must(err)
	return genesisVector{string(file), document.ValidatorHash(), document.ConsensusParams.Hash()}
}

func randomKeyFile(random *rand.Rand) keyVector {
	folder, err := os.MkdirTemp("", "vectors")
	must(err)
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "key.json")
	key := ed25519.GenPrivKeyFromSecret(randomBytes(random, 32))
	privval.NewFilePV(key, path, filepath.Join(folder, "state.json")).Save()
	file, err := os.ReadFile(path)
	must(err)
	message := randomBytes(random, 100)
	signature, err := key.Sign(message)
	must(err)
	return keyVector{string(file), message, signature}
}

func randomNodeKey(random *rand.Rand) nodeKeyVector {
	folder, err := os.MkdirTemp("", "vectors")
	must(err)
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "node_key.json")
	key := &p2p.NodeKey{PrivKey: ed25519.GenPrivKeyFromSecret(randomBytes(random, 32))}
	must(key.SaveAs(path))
	file, err := os.ReadFile(path)
	must(err)
	message := randomBytes(random, 100)
	signature, err := key.PrivKey.Sign(message)
	must(err)
	return nodeKeyVector{string(file), key.ID(), message, signature}
}
