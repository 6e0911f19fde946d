"""Makes what the tests need at moto's server, checks that the documented policy allows nothing else, and prints what it has
made, as JSON. Runs in moto's own environment: prepare.py ADDRESS POLICY"""

import json
import sys
import urllib.request

import boto3
import botocore.exceptions

REGION = "eu-central-1"


def main():
    address, policy = sys.argv[1:]

    def client(service, key="admin", secret="admin"):
        return boto3.client(service, REGION, endpoint_url=address, aws_access_key_id=key, aws_secret_access_key=secret)

    kms, iam = client("kms"), client("iam")
    keys = [kms.create_key(KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"] for _ in range(4)]  # moto has no default
    kms.create_alias(AliasName="alias/kveil", TargetKeyId=keys[0]["KeyId"])
    kms.schedule_key_deletion(KeyId=keys[2]["KeyId"], PendingWindowInDays=7)
    kms.disable_key(KeyId=keys[3]["KeyId"])
    signing = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="RSA_2048")["KeyMetadata"]

    iam.create_user(UserName="kveil")
    iam.put_user_policy(UserName="kveil", PolicyName="kveil", PolicyDocument=policy)
    access = iam.create_access_key(UserName="kveil")["AccessKey"]
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Federated": "*"},
                                                     "Action": "sts:AssumeRoleWithWebIdentity"}]}
    role = iam.create_role(RoleName="kveil", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    iam.put_role_policy(RoleName="kveil", PolicyName="kveil", PolicyDocument=policy)

    # From now on each request has to be signed, and to be allowed.
    request = urllib.request.Request(f"{address}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"})
    urllib.request.urlopen(request, timeout=10).close()
    check_that_nothing_else_is_allowed(client("kms", access["AccessKeyId"], access["SecretAccessKey"]), keys[0]["KeyId"])
    print(json.dumps({"keys": [key["Arn"] for key in keys[:2]], "deleted": keys[2]["Arn"], "disabled": keys[3]["Arn"],
                      "signing": signing["Arn"], "id": access["AccessKeyId"], "secret": access["SecretAccessKey"], "role": role["Arn"]}))


def check_that_nothing_else_is_allowed(kms, key):
    kms.describe_key(KeyId=key)
    made = kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    assert kms.decrypt(KeyId=key, CiphertextBlob=made["CiphertextBlob"])["Plaintext"] == made["Plaintext"]
    again = kms.re_encrypt(CiphertextBlob=made["CiphertextBlob"], SourceKeyId=key, DestinationKeyId=key)
    assert kms.decrypt(KeyId=key, CiphertextBlob=again["CiphertextBlob"])["Plaintext"] == made["Plaintext"]
    forbidden = {
        "create_key": {}, "list_keys": {}, "encrypt": {"KeyId": key, "Plaintext": b"x"},
        "schedule_key_deletion": {"KeyId": key}, "disable_key": {"KeyId": key},
        "create_grant": {"KeyId": key, "GranteePrincipal": "arn:aws:iam::123456789012:user/x", "Operations": ["Decrypt"]},
        "update_alias": {"AliasName": "alias/kveil", "TargetKeyId": key},
        "put_key_policy": {"KeyId": key, "PolicyName": "default", "Policy": "{}"},
    }
    for operation, arguments in forbidden.items():
        try:
            getattr(kms, operation)(**arguments)
        except botocore.exceptions.ClientError as error:
            assert "is not authorized to perform" in str(error), f"{operation}: {error}"  # moto says so in XML
        else:
            raise AssertionError(f"{operation} is allowed")


if __name__ == "__main__":
    main()
