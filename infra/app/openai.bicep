// One Azure OpenAI or AI Services account in one region, without keys, and its model deployments.
import { accountKind, modelDeployment, tagSet } from 'types.bicep'

param name string
param location string
param tags tagSet
param kind accountKind
param deployments modelDeployment[]

@allowed(['Enabled', 'Disabled'])
param publicNetworkAccess string

resource account 'Microsoft.CognitiveServices/accounts@2025-12-01' = {
  name: name
  location: location
  tags: tags
  kind: kind
  sku: { name: 'S0' }
  properties: {
    // A regional endpoint does not accept tokens of an identity: the account needs its own subdomain.
    customSubDomainName: name
    disableLocalAuth: true
    publicNetworkAccess: publicNetworkAccess
    networkAcls: { defaultAction: 'Allow' }
  }
}

// One after the other: the account rejects a second operation while one is running.
@batchSize(1)
resource modelDeployments 'Microsoft.CognitiveServices/accounts/deployments@2025-12-01' = [
  for item in deployments: {
    parent: account
    name: item.name
    tags: tags
    sku: {
      name: empty(item.?sku) ? 'GlobalStandard' : item.?sku!
      capacity: item.?capacity ?? 30
    }
    properties: {
      model: {
        format: item.?format ?? 'OpenAI'
        name: item.model
        version: empty(item.?version) ? null : item.?version
      }
      raiPolicyName: empty(item.?raiPolicyName) ? null : item.?raiPolicyName
      versionUpgradeOption: 'OnceCurrentVersionExpired'
    }
  }
]
