package main

import (
	"bytes"
	"encoding/json"
	"math/rand"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/light"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	cmtversion "github.com/cometbft/cometbft/proto/tendermint/version"
	"github.com/cometbft/cometbft/types"
	"github.com/cometbft/cometbft/version"
)

// A step leads from a trusted light block to a later one; CometBFT's verdict on it is empty where it accepts.
type step struct {
	Forgery   string          `json:"forgery"`
	Trusted   json.RawMessage `json:"trusted"`
	Untrusted json.RawMessage `json:"untrusted"`
	Verdict   string          `json:"verdict"`
}

type lightBlock struct {
	header     *types.Header
	commit     *types.Commit
	validators *types.ValidatorSet
}

func (block lightBlock) json() json.RawMessage {
	data, err := json.Marshal(map[string]any{
		"signed_header": json.RawMessage(comet(types.SignedHeader{Header: block.header, Commit: block.commit})),
		"validator_set": validatorsJSON(block.validators),
	})
	must(err)
	return data
}

type signers struct {
	set  *types.ValidatorSet
	keys map[string]ed25519.PrivKey
}

func judge(random *rand.Rand, count int) []step {
	steps := []step{}
	for len(steps) < count {
		steps = append(steps, randomStep(random))
	}
	return steps
}

func randomStep(random *rand.Rand) step {
	chainID := randomChainID(random)
	first := randomSigners(random, 1+random.Intn(6))
	height := 1 + random.Int63n(1000)
	start := time.Unix(1_700_000_000+random.Int63n(1_000_000), random.Int63n(1_000_000_000)).UTC()
	trusted := makeBlock(random, chainID, height, start, first, first, 0)

	second := first
	if random.Intn(2) == 0 {
		second = changed(random, first)
	}
	distance := 1 + random.Int63n(3)
	if distance == 1 {
		trusted = makeBlock(random, chainID, height, start, first, second, 0)
	}
	absentChance := random.Intn(5)
	later := start.Add(time.Duration(1 + random.Int63n(1_000_000_000_000)))
	untrusted := makeBlock(random, chainID, height+distance, later, second, second, absentChance)
	forgery := forge(random, chainID, &untrusted, second, start)
	return step{forgery, trusted.json(), untrusted.json(), verdict(trusted, untrusted)}
}

func randomSigners(random *rand.Rand, size int) signers {
	set, keys := randomValidators(random, size)
	return signers{set, keys}
}

// changed keeps some of the validators and brings in others.
func changed(random *rand.Rand, old signers) signers {
	fresh := randomSigners(random, 1+random.Intn(4))
	list := []*types.Validator{}
	for _, member := range old.set.Validators {
		if random.Intn(2) == 0 {
			list = append(list, types.NewValidator(member.PubKey, member.VotingPower))
			fresh.keys[member.Address.String()] = old.keys[member.Address.String()]
		}
	}
	for _, member := range fresh.set.Validators {
		list = append(list, types.NewValidator(member.PubKey, member.VotingPower))
	}
	return signers{types.NewValidatorSet(list), fresh.keys}
}

func makeBlock(
	random *rand.Rand, chainID string, height int64, at time.Time, now, next signers, absentOf int,
) lightBlock {
	header := randomHeader(random)
	header.Version = cmtversion.Consensus{Block: version.BlockProtocol, App: 1}
	header.ChainID, header.Height, header.Time = chainID, height, at
	header.ValidatorsHash, header.NextValidatorsHash = now.set.Hash(), next.set.Hash()
	block := lightBlock{header: &header, validators: now.set}
	block.commit = signCommit(random, chainID, &header, now, absentOf)
	return block
}

// signCommit signs with every validator, but for about `absentOf` in ten that are absent and as many that vote nil.
func signCommit(random *rand.Rand, chainID string, header *types.Header, by signers, absentOf int) *types.Commit {
	blockID := types.BlockID{
		Hash:          header.Hash(),
		PartSetHeader: types.PartSetHeader{Total: 1 + uint32(random.Intn(9)), Hash: randomBytes(random, 32)},
	}
	commit := &types.Commit{Height: header.Height, Round: int32(random.Intn(3)), BlockID: blockID}
	for range by.set.Validators {
		commit.Signatures = append(commit.Signatures, types.NewCommitSigAbsent())
	}
	for at := range by.set.Validators {
		switch chance := random.Intn(20); {
		case chance < absentOf:
			continue
		case chance < 2*absentOf:
			signAt(chainID, commit, by, at, types.BlockIDFlagNil, header.Time)
		default:
			signAt(chainID, commit, by, at, types.BlockIDFlagCommit, header.Time.Add(time.Duration(random.Int63n(1e9))))
		}
	}
	return commit
}

func signAt(chainID string, commit *types.Commit, by signers, at int, flag types.BlockIDFlag, when time.Time) {
	address := by.set.Validators[at].Address
	commit.Signatures[at] = types.CommitSig{BlockIDFlag: flag, ValidatorAddress: address, Timestamp: when}
	signature, err := by.keys[address.String()].Sign(commit.VoteSignBytes(chainID, int32(at)))
	must(err)
	commit.Signatures[at].Signature = signature
}

// forge changes one thing about two in three blocks and says what.
func forge(random *rand.Rand, chainID string, block *lightBlock, by signers, trustedTime time.Time) string {
	at := random.Intn(len(block.commit.Signatures))
	signature := &block.commit.Signatures[at]
	switch random.Intn(24) {
	case 0:
		if len(signature.Signature) > 0 {
			signature.Signature = append([]byte{}, signature.Signature...)
			signature.Signature[random.Intn(64)] ^= 1 << uint(random.Intn(8))
			return "signature bit"
		}
	case 1:
		*signature = block.commit.Signatures[random.Intn(len(block.commit.Signatures))]
		return "signature of another place"
	case 2:
		if len(signature.Signature) > 0 {
			signature.Timestamp = signature.Timestamp.Add(1)
			return "vote time"
		}
	case 3:
		if signature.BlockIDFlag != types.BlockIDFlagAbsent {
			signature.BlockIDFlag = types.BlockIDFlagCommit + types.BlockIDFlagNil - signature.BlockIDFlag
			return "flag"
		}
	case 4:
		if len(signature.Signature) > 0 {
			signature.ValidatorAddress = randomBytes(random, 20)
			return "validator address"
		}
	case 5:
		block.commit.Round++
		return "round"
	case 6:
		block.commit.Height++
		return "commit height"
	case 7:
		block.commit.BlockID.PartSetHeader.Total++
		return "parts"
	case 8:
		block.header.AppHash = randomBytes(random, 32)
		return "app hash"
	case 9:
		block.validators = randomSigners(random, len(by.set.Validators)).set
		return "validator set"
	case 10:
		block.commit.Signatures = block.commit.Signatures[:len(block.commit.Signatures)-1]
		return "one signature fewer"
	case 11:
		block.commit.Signatures = append(block.commit.Signatures, types.NewCommitSigAbsent())
		return "one signature more"
	case 12:
		block.header.ChainID = chainID + "x"
		block.commit = signCommit(random, chainID, block.header, by, 0)
		return "chain id"
	case 13:
		block.header.Time = trustedTime
		block.commit = signCommit(random, chainID, block.header, by, 0)
		return "time not later"
	case 14:
		block.commit = signCommit(random, chainID+"x", block.header, by, 0)
		return "signed for another chain"
	case 15:
		block.header.Version.Block++
		block.commit = signCommit(random, chainID, block.header, by, 0)
		return "block protocol"
	}
	return ""
}

// verdict is that of the light client, which further must find every signature present valid, nil votes too.
func verdict(trusted, untrusted lightBlock) string {
	trustedHeader := &types.SignedHeader{Header: trusted.header, Commit: trusted.commit}
	untrustedHeader := &types.SignedHeader{Header: untrusted.header, Commit: untrusted.commit}
	now := untrusted.header.Time.Add(time.Hour)
	period := now.Sub(trusted.header.Time) + time.Hour
	err := light.Verify(
		trustedHeader, trusted.validators, untrustedHeader, untrusted.validators,
		period, now, time.Second, light.DefaultTrustLevel,
	)
	if err != nil {
		return "light: " + err.Error()
	}
	if err := types.VerifyCommit(
		trusted.header.ChainID, untrusted.validators, untrusted.commit.BlockID, untrusted.header.Height, untrusted.commit,
	); err != nil {
		return "every signature: " + err.Error()
	}
	for at, signature := range untrusted.commit.Signatures {
		if signature.BlockIDFlag == types.BlockIDFlagNil && !nilVoteIsValid(trusted.header.ChainID, untrusted, at) {
			return "nil vote"
		}
	}
	return ""
}

func nilVoteIsValid(chainID string, block lightBlock, at int) bool {
	signature, member := block.commit.Signatures[at], block.validators.Validators[at]
	vote := block.commit.GetVote(int32(at)).ToProto()
	if vote.Type != cmtproto.PrecommitType || !bytes.Equal(signature.ValidatorAddress, member.Address) {
		return false
	}
	return member.PubKey.VerifySignature(types.VoteSignBytes(chainID, vote), signature.Signature)
}
