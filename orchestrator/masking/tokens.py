"""Secrets by their looks: tokens that their issuers made recognisable, and what stands behind words such as `password`.

Each token's form is the one that its issuer documents or makes; `gitleaks` (MIT) names most of them by the rule that is
noted beside it. Those without a form of their own (most of gitleaks' rules look for 32 letters near a vendor's name)
are left to `secret:assigned`, which asks for a telling word before them and randomness in them.
"""

from __future__ import annotations

import re

from orchestrator.masking.kinds import Kind, is_random


def _token(
    name: str, pattern: str, *marks: str, back: int = 0, inside: bool = False, alike: str = ""
) -> Kind:
    return Kind(
        f"secret:{name}",
        re.compile(pattern),
        marks,
        back=back,
        inside=inside,
        in_long_word=True,
        alike=re.compile(alike) if alike else None,
    )


def _block(name: str, pattern: str, *marks: str) -> Kind:
    return Kind(f"secret:{name}", re.compile(pattern), marks, inside=True)


_MODELS = (
    _token(
        "anthropic", r"sk-ant-[a-zA-Z0-9]{2,12}-[\w-]{20,}", "sk-ant-"
    ),  # anthropic-api-key, -admin-api-key
    _token("openrouter", r"sk-or-v1-[0-9a-f]{32,}", "sk-or-"),  # openrouter.ai/docs: keys
    # openai-api-key; without a middle part also DeepSeek's and those of many gateways
    _token("openai", r"sk-(?:(?:proj|svcacct|admin|None)-[\w-]{20,}|[a-zA-Z0-9]{32,})", "sk-"),
    _token("google", r"AIza[\w-]{35}(?![\w-])", "AIza"),  # gcp-api-key
    _token(
        "google", r"ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}", "ya29.", "GOCSPX-"
    ),  # OAuth tokens, client secrets
    _token("huggingface", r"(?:hf_|api_org_)[a-zA-Z0-9]{34,}", "hf_", "api_org_"),  # huggingface-access-token
    _token("groq", r"gsk_[a-zA-Z0-9]{40,}", "gsk_"),
    _token("perplexity", r"pplx-[a-zA-Z0-9]{40,}", "pplx-"),  # perplexity-api-key
    _token("xai", r"xai-[a-zA-Z0-9]{40,}", "xai-"),
    _token("replicate", r"r8_[a-zA-Z0-9]{37,}", "r8_"),
    _token("langsmith", r"lsv2_[ps][tk]_[0-9a-f]{32}_[0-9a-f]{10}", "lsv2_"),
)

_CLOUDS = (
    # aws-access-token
    _token(
        "aws", r"(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b", "A3T", "AKIA", "ASIA", "ABIA", "ACCA"
    ),
    _token("azure", r"[\w~.]{3}\dQ~[\w~.-]{31,34}(?![\w~.-])", "Q~", back=4),  # azure-ad-client-secret
    _token("alibaba", r"LTAI[a-zA-Z0-9]{20}\b", "LTAI"),  # alibaba-access-key-id
    _token("digitalocean", r"do[opr]_v1_[0-9a-f]{64}\b", "doo_v1_", "dop_v1_", "dor_v1_"),  # digitalocean-pat
    _token("databricks", r"dapi[0-9a-f]{32}(?:-\d)?\b", "dapi"),  # databricks-api-token
    _token("vault", r"hv[sb]\.[\w-]{24,}", "hvs.", "hvb."),  # vault-service-token, vault-batch-token
    _token(
        "terraform", r"[a-zA-Z0-9]{14}\.atlasv1\.[\w=-]{60,}", ".atlasv1.", back=14
    ),  # hashicorp-tf-api-token
    _token("pulumi", r"pul-[0-9a-f]{40}\b", "pul-"),  # pulumi-api-token
)

_CODE = (
    # github-pat, -oauth, -app-token, -refresh-token, -fine-grained-pat
    _token("github", r"gh[opusr]_[a-zA-Z0-9]{36,}", "gho_", "ghp_", "ghu_", "ghs_", "ghr_"),
    _token("github", r"github_pat_\w{36,}", "github_pat_"),
    # gitlab-pat, -deploy-token and others
    _token("gitlab", r"gl(?:pat|dt|ptt|rt|cbt|oas|soat|ft|imt|agent)-[\w-]{20,}", "glpat-", "gldt-", "glptt-",
           "glrt-", "glcbt-", "gloas-", "glsoat-", "glft-", "glimt-", "glagent-"),
    _token("npm", r"npm_[a-zA-Z0-9]{36}\b", "npm_"),  # npm-access-token
    _token("pypi", r"pypi-AgE[\w-]{50,}", "pypi-AgE"),  # pypi-upload-token
    _token("docker", r"dckr_(?:pat|oat)_[\w-]{27,}", "dckr_"),
    _token("atlassian", r"ATATT3[\w=-]{60,}", "ATATT3"),  # atlassian-api-token
    _token("postman", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}\b", "PMAK-"),  # postman-api-token
    _token("linear", r"lin_(?:api|oauth)_[a-zA-Z0-9]{40,}", "lin_"),  # linear-api-key
    _token("notion", r"ntn_[a-zA-Z0-9]{40,}", "ntn_"),  # notion-api-token
)  # fmt: skip

_SERVICES = (
    # slack-bot-token, -user-token, -app-token and others
    _token("slack", r"xox[abeoprs][.-][\w.-]{15,}|xapp-\d-[A-Z0-9]+-\d+-[a-z0-9]+", "xox", "xapp-"),
    _token("slack", r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<it>[\w+/]{40,})",
           "hooks.slack.com"),  # slack-webhook-url
    _token("stripe", r"[sr]k_(?:test|live|prod)_[a-zA-Z0-9]{12,99}\b", "sk_", "rk_"),  # stripe-access-token
    _token("webhook", r"whsec_[a-zA-Z0-9+/]{24,}=*", "whsec_"),  # standardwebhooks.com, Stripe, Baton
    _token("shopify", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}\b", "shpat_", "shpca_", "shppa_", "shpss_"),
    _token("sendgrid", r"SG\.[\w-]{16,}\.[\w-]{32,}", "SG."),  # sendgrid-api-token
    _token("twilio", r"SK[0-9a-f]{32}\b", "SK"),  # twilio-api-key
    _token("mailgun", r"key-[0-9a-f]{32}\b", "key-"),  # mailgun-private-api-token
    _token("telegram", r"(?<=\d{8}):(?P<it>A[\w-]{34})(?![\w-])", ":A", inside=True),  # telegram-bot-api-token
    _token("grafana", r"gl(?:sa|c)_[a-zA-Z0-9+/=_]{32,}", "glsa_", "glc_"),  # grafana-service-account-token
    _token("sentry", r"sntry[su]_[\w+/=]{60,}", "sntrys_", "sntryu_"),  # sentry-org-token, sentry-user-token
    _token("newrelic", r"NRAK-[A-Z0-9]{27}\b", "NRAK-"),  # new-relic-user-api-key
)  # fmt: skip

_FORMS = (
    _token("jwt", r"eyJ[\w-]{10,}+\.eyJ[\w-]{10,}+\.[\w-]{10,}", "eyJ", alike=r"[\w-]+"),  # jwt, RFC 7519
    _token("age", r"AGE-SECRET-KEY-1[A-Z0-9]{58}\b", "AGE-SECRET-KEY-1"),  # age-secret-key
    # private-key, RFC 7468; also where its lines were joined, and where its end is missing; in none another begins
    _block("private-key", r"-----BEGIN[A-Z0-9 ]{0,40} PRIVATE KEY(?: BLOCK)?-----"
           r"(?:(?:(?!-----BEGIN)[\sa-zA-Z0-9+/=:,\\.-])*?-----END[A-Z0-9 ]{0,40} PRIVATE KEY(?: BLOCK)?-----"
           r"|(?:\s*(?:\\[rn])*[a-zA-Z0-9+/=]{16,})*)", "-----BEGIN"),
)  # fmt: skip

_WORDS = (
    r"passw(?:or)?d|passphrase|secret|credentials?|api[_ -]?key|access[_ -]?key|account[_ -]?key|private[_ -]?key"
    r"|signing[_ -]?key|auth[_ -]?token|access[_ -]?token|refresh[_ -]?token|bearer[_ -]?token|session[_ -]?token"
)
_STEMS = ("passw", "passphrase", "secret", "credential", "api", "access", "account", "private", "signing", "auth",
          "refresh", "bearer", "session")  # fmt: skip
_STAND_INS = re.compile(
    r"(?i)^(?:pass(?:word|wd)?|secret|token|key|changeme|example|placeholder|x+|\*+|\.+|…)$|^[$<{%\[(*]|\.\.\.|…$"
)
"""What documentation writes where a secret would stand."""


def _is_no_stand_in(text: str) -> bool:
    return not _STAND_INS.search(text)


def _is_assigned(text: str) -> bool:
    return _is_no_stand_in(text) and is_random(text)


_NAMED = re.compile(rf"(?i)(?:^|[_ .-]|(?<=[a-z])(?-i:(?=[PSAR])))(?:{_WORDS})$")

FIELD = Kind(
    "field",
    re.compile(rf"(?i)(?:{_WORDS})(?:\\?[\"'`])?\s{{0,3}}(?:=>|:=|[=:])"),
    _STEMS,
    folded=True,
    inside=True,
)
"""A word for a secret, and something that it is said to be."""

SECRETS: tuple[Kind, ...] = (
    *_MODELS, *_CLOUDS, *_CODE, *_SERVICES, *_FORMS,
    # RFC 3986, userinfo
    Kind("secret:url", re.compile(r"://[^\s:/@\"'<>]*:(?P<it>[^\s/@\"'<>]+)@"), ("://",), inside=True,
         valid=_is_no_stand_in),
    # What stands behind a word is judged by its first 256 characters, and masked as far as it goes.
    # RFC 6750, section 2.3, and what services document as their own: a short word is no reason to let it pass
    Kind("secret:query",
         re.compile(r"[?&](?i:(?:(?:access|api|auth|bearer|id|refresh|session)[_-]?)?token|api[_-]?key|client[_-]?secret"
                    r"|secret|passw(?:or)?d|pwd)=(?P<it>[^\s&#\"'`<>,;(){}\[\]\\]{8,256})"),
         ("?", "&"), inside=True, valid=_is_no_stand_in, more=re.compile(r"[^\s&#\"'`<>,;(){}\[\]\\]+")),
    # RFC 9110, credentials
    Kind("secret:authorization", re.compile(r"(?i)(?:bearer|basic|token)[ :]{1,3}(?P<it>[\w+/.~=-]{16,})"),
         ("bearer", "basic", "token"), folded=True, valid=_is_assigned),
    Kind("secret:assigned",
         re.compile(rf"(?i)(?:{_WORDS})(?:\\?[\"'`])?\s{{0,3}}(?:=>|:=|[=:])\s{{0,3}}(?:\\?[\"'`])?"
                    r"(?P<it>[^\s\"'`<>,;(){}\[\]\\]{10,256})"),
         _STEMS, folded=True, inside=True, needs=FIELD, valid=_is_assigned,
         more=re.compile(r"[^\s\"'`<>,;(){}\[\]\\]+")),
)  # fmt: skip


def is_named_secret(name: str, value: str) -> bool:
    """Whether a field of this name holds a secret here, and not a label or a hint."""
    return " " not in value and _NAMED.search(name) is not None and _is_assigned(value)
