"""The small consortium that the simulation starts from: six members, ten accounts, four validators."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from feiqian.core.signatures import PublicKey
from feiqian.ledger.records import Parameters, Policy, PolicyKey, PolicyRule, RoleThreshold
from feiqian.testing.simulation import reference
from feiqian.testing.simulation.model import AccountFacts, MemberFacts, Model, ValidatorFacts
from feiqian.wallet.keys import Ed25519Key, P256Key, SigningKey, Sm2Key

CHAIN_ID = "kingfisher-1"
GENESIS_MS = 1_900_000_000_000
"""2030-03-17 17:46:40 UTC."""

MEMBERS: Mapping[str, tuple[str, ...]] = {
    "mint": ("governor", "issuer"),
    "north": ("bank", "governor"),
    "south": ("bank", "governor"),
    "mill": ("company",),
    "shop": ("company",),
    "watch": ("governor", "regulator"),
}

# Small enough that a block's limits are reached by a few large batch transfers, and the rest waits for the next block.
PARAMETERS: Mapping[str, int] = {
    "max_block_work": 1_000_000,
    "max_triggers_per_block": 3,
    "sponsor_block_work": 500_000,
    "sponsor_block_bytes": 2**17,
    "replay_window_ms": 60_000,
    "max_approval_days": 3,
}

# GB/T 32918.5-2017, A.2: the private key of the standard's example and its public point.
_SM2_EXAMPLE = bytes.fromhex(
    "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8"
    "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)

KEYS: Mapping[str, SigningKey] = {
    **{
        name: Ed25519Key(reference.tagged("feiqian/simulation-key", name.encode()))
        for name in ("mint", "north", "south", "mill", "mill-maker", "mill-checker", "mill-chief", "watch", "spare")
    },
    "shop": P256Key(reference.tagged("feiqian/simulation-key", b"shop")),
    "shop-2": Sm2Key(_SM2_EXAMPLE),
}
"""Every key of the simulation by name; "spare" stands in no policy at first."""

NETWORK_KEYS: Mapping[str, bytes] = {
    name: Ed25519Key(reference.tagged("feiqian/simulation-network-key", name.encode())).public.data
    for name in ("mint", "north", "south", "mill", "spare", "spare-2")
}
"""Keys of validators and nodes: of the first four members from the start, then of nobody."""

POWERS: Mapping[str, int] = {"mint": 10, "north": 10, "south": 10, "mill": 6}

NAME_OF: Mapping[PublicKey, str] = {key.public: name for name, key in KEYS.items()}

OWNER = ({"role": "owner", "weight": 1},)


class AccountPlan(NamedTuple):
    """An account of the consortium: its member, keys as (name, role, weight), rules as the consortium file has them."""

    member: str
    keys: tuple[tuple[str, str, int], ...]
    rules: tuple[dict[str, Any], ...] = ({"kinds": ["*"], "needs": [*OWNER]},)


ACCOUNTS: Mapping[str, AccountPlan] = {
    "mint": AccountPlan("mint", (("mint", "owner", 1),)),
    "north": AccountPlan("north", (("north", "owner", 1),)),
    "north-settling": AccountPlan("north", (("north", "owner", 1),)),
    "south": AccountPlan("south", (("south", "owner", 1),)),
    "mill": AccountPlan("mill", (("mill", "owner", 1),)),
    "mill-board": AccountPlan(
        "mill",
        (("mill-maker", "maker", 1), ("mill-checker", "checker", 1), ("mill-chief", "checker", 2)),
        (
            {
                "kinds": ["assets.Transfer", "payments.*"],
                "asset": "EUR.north",
                "up_to_minor": 100,
                "needs": [{"role": "maker", "weight": 1}],
            },
            {
                "kinds": ["accounts.ChangePolicy", "assets.BatchTransfer"],
                "needs": [{"role": "checker", "weight": 2}, {"role": "maker", "weight": 1}],
            },
            {"kinds": ["accounts.Withdraw"], "needs": [{"role": "checker", "weight": 1}]},
            {"kinds": ["assets.*", "payments.*"], "needs": [{"role": "checker", "weight": 1}]},
        ),
    ),
    "shop": AccountPlan("shop", (("shop", "owner", 1),)),
    "shop-2": AccountPlan("shop", (("shop", "owner", 1), ("shop-2", "owner", 1))),
    "watch": AccountPlan("watch", (("watch", "owner", 1),)),
    "watch-2": AccountPlan("watch", (("watch", "owner", 1),)),
}

SCHEME_NAMES = {1: "ed25519", 2: "p256", 3: "sm2"}


def app_state(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return the genesis app state with the modules' sections in it."""
    accounts = []
    for name, plan in ACCOUNTS.items():
        keys = [{"key": _key_text(key), "role": role, "weight": weight} for key, role, weight in plan.keys]
        accounts.append({"name": name, "member": plan.member, "keys": keys, "rules": [*plan.rules]})
    members = [{"id": name, "legal_name": f"{name.title()} Ltd", "roles": [*roles]} for name, roles in MEMBERS.items()]
    return {
        "app_version": 1,
        "chain": {"id": CHAIN_ID},
        "parameters": dict(PARAMETERS),
        "members": members,
        "accounts": accounts,
        "validators": [
            {"name": f"{name} 1", "member": name, "public_key": f"ed25519:{NETWORK_KEYS[name].hex()}", "power": power}
            for name, power in POWERS.items()
        ],
        "nodes": [
            {"name": f"{name} 1", "member": name, "public_key": f"ed25519:{NETWORK_KEYS[name].hex()}"}
            for name in POWERS
        ],
        **{name: section for name, section in sections.items() if section is not None},
    }


def found(model: Model) -> dict[str, bytes]:
    """Write members, accounts and parameters into the model and return the accounts' addresses by name."""
    defaults = Parameters()
    model.parameters = {name: getattr(defaults, name) for name in Parameters.__struct_fields__} | dict(PARAMETERS)
    for name, roles in MEMBERS.items():
        model.members[name] = MemberFacts((f"{name.title()} Ltd", None, None, None, None), roles, False)
    for name, power in POWERS.items():
        model.validators[NETWORK_KEYS[name]] = ValidatorFacts(name, f"{name} 1", power)
        model.nodes[NETWORK_KEYS[name]] = (name, f"{name} 1")
    names: dict[str, bytes] = {}
    for name, plan in ACCOUNTS.items():
        policy = _policy(plan)
        names[name] = reference.address(plan.member, policy, reference.genesis_salt(name))
        model.accounts[names[name]] = AccountFacts(plan.member, policy, None)
        model.administrations.setdefault(plan.member, names[name])
    return names


def _policy(plan: AccountPlan) -> Policy:
    keys = [PolicyKey(KEYS[name].public, weight, role) for name, role, weight in plan.keys]
    rules = [
        PolicyRule(
            tuple(rule["kinds"]),
            rule.get("asset"),
            rule.get("up_to_minor"),
            tuple(RoleThreshold(need["role"], need["weight"]) for need in rule["needs"]),
        )
        for rule in plan.rules
    ]
    return Policy(tuple(sorted(keys, key=lambda entry: (entry.key.scheme, entry.key.data))), tuple(rules))


def _key_text(name: str) -> str:
    key = KEYS[name].public
    return f"{SCHEME_NAMES[key.scheme]}:{key.data.hex()}"
